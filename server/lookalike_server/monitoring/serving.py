"""Puts the HTTP server together."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import structlog
from prometheus_client.registry import Collector

from lookalike_server.monitoring.http_server import HttpServer
from lookalike_server.monitoring.metrics_page import MetricsPage, Source
from lookalike_server.monitoring.pages import Pages
from lookalike_server.rpc.listening import Address
from lookalike_server.rpc.readiness import Readiness


def source_of(collector: Collector) -> Source:
    """Return a source that always has these metrics."""

    async def source() -> Collector:
        return collector

    return source


@asynccontextmanager
async def serving_metrics(
    address: Address, sockets: Sequence[socket.socket], source: Source, readiness: Callable[[], Readiness]
) -> AsyncIterator[None]:
    """Serve `/metrics`, `/healthz` and `/readyz` while the block runs.

    Args:
        address: What the sockets listen on, for the log.
        sockets: They listen; they are closed with the block.
        source: Of the metrics.
        readiness: Whether the server is to get calls.
    """
    page = MetricsPage(source)
    server = HttpServer(Pages(page, readiness))
    await server.start(sockets)
    structlog.get_logger().info("metrics_listening", host=address.host, port=address.port, local=address.is_local)
    try:
        yield
    finally:
        server.close()
        page.close()
