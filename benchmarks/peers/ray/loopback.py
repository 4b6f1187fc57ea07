"""Keeps Ray Serve on the loopback interface: its gRPC servers listen on all, and no option says otherwise."""

from __future__ import annotations

from typing import Any

from grpc.aio import _server  # the public `Server` is only an interface


def only() -> None:
    """From now on this process's gRPC servers listen on 127.0.0.1 where they would have listened everywhere."""
    server: Any = _server.Server
    listen = server.add_insecure_port

    def add_insecure_port(self: Any, address: str) -> Any:
        return listen(self, address.replace("[::]", "127.0.0.1").replace("0.0.0.0", "127.0.0.1"))  # noqa: S104

    server.add_insecure_port = add_insecure_port
