"""The `lookalike` command: what the client can do, from a shell."""

from lookalike_client.cli.app import main

__all__ = ["main"]
