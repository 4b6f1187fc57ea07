"""All methods in one queue: what grpcio's generated functions add, without a queue of its own for each method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc


class GenericMethods:
    """A server as the generated `add_...Servicer_to_server` functions see it; pass it as `Any`.

    They register each method with the C core too, which then has a queue of pending calls for each. A peer could fill
    all of them, each to the limit of `grpc.server.max_pending_requests`, and for each call the event loop would wait
    for as many futures as there are methods. A generic handler finds the method by its name.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        """Add to this server."""
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Add handlers that are found by name."""
        self._server.add_generic_rpc_handlers(tuple(handlers))

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Do nothing: the same handlers are generic ones."""
