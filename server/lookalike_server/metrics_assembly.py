"""Builds what serves the metrics from the settings, where they ask for it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from lookalike_server.config import Settings
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.monitoring.listening import listen_sockets, parse_metrics_listen
from lookalike_server.rpc.listening import Address


@dataclass(frozen=True, slots=True)
class MetricsListener:
    """Where metrics are served, and the sockets that listen there."""

    address: Address
    sockets: tuple[socket.socket, ...]

    @property
    def port(self) -> int:
        """Where it listens, also where any free port was asked for."""
        return self.address.port


@contextmanager
def metrics_listener(settings: Settings, calls: Address) -> Iterator[MetricsListener | None]:
    """Listen where the settings say that metrics are served, if at all, while the block runs.

    Args:
        settings: `metrics_listen` is of interest.
        calls: Where the server takes calls.

    Raises:
        LookalikeError: FAILED_PRECONDITION when that is no address, or cannot be listened on.
    """
    if settings.metrics_listen is None:
        yield None
        return
    address = parse_metrics_listen(settings.metrics_listen)
    if address.port and address.port == calls.port:
        # Found here, because a port that is reserved for frontend processes does not look taken.
        raise LookalikeError(
            Code.FAILED_PRECONDITION,
            f"metrics_listen: cannot listen on {address}: port {address.port} takes the calls; choose another one",
        )
    with ExitStack() as stack:
        sockets = listen_sockets(address)
        for each in sockets:
            stack.enter_context(each)
        yield MetricsListener(address.with_port(sockets[0].getsockname()[1]), sockets)
