"""Makes what a machine with a GPU and without a network needs to be measured: `python -m benchmarks.gpu.parcel`."""
