"""The services of `lookalike.v1`."""
