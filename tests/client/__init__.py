"""Tests of the Python client and the `lookalike` command, over real gRPC."""
