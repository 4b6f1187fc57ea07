"""Fixtures of the load test's tests."""

from support.server_fixtures import lookalike, model, real, server

__all__ = ["lookalike", "model", "real", "server"]
