"""Fixtures of the tests of processes."""

from __future__ import annotations

from support.server_fixtures import lookalike, model, real, server

__all__ = ["lookalike", "model", "real", "server"]
