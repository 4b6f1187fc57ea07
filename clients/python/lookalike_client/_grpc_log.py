"""Imported before anything else of gRPC's: keeps it from logging, with its own error, why a handshake failed.

The documented default of GRPC_VERBOSITY is ERROR, but where it is not set gRPC 1.85 logs failed handshakes at INFO on
standard error. The variable is read once, when gRPC is imported, so it is not left in the environment.
"""

from __future__ import annotations

import os

if "GRPC_VERBOSITY" in os.environ:
    import grpc
else:
    os.environ["GRPC_VERBOSITY"] = "ERROR"
    import grpc

    del os.environ["GRPC_VERBOSITY"]

__all__ = ["grpc"]
