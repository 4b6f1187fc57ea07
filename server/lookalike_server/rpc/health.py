"""Asks a server for its health: for the `health` command, and through it for container engines."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def ask_health(target: str, timeout: float) -> str:
    """Ask the server at HOST:PORT and return "SERVING", "NOT_SERVING", or why no answer came in `timeout` seconds."""
    # No proxy: probers are on this host or network, and the proxies of the environment are for others.
    with grpc.insecure_channel(target, options=(("grpc.enable_http_proxy", 0),)) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its type stub lacks the methods
        try:
            response = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout, wait_for_ready=False)
        except grpc.RpcError as error:
            return f"no answer from {target}: {error.code().name}"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))
