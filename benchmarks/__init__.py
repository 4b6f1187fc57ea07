"""Measures the server beside its limit and its peers; `python -m benchmarks --help`, and README.md beside this file."""
