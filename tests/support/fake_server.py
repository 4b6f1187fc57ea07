"""A small server over loopback that keeps everything in memory; it can be stopped and started again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from lookalike.v1 import catalog_service_pb2_grpc, embedding_service_pb2_grpc, search_service_pb2_grpc
from support.fake_servicer import FakeServicer


class FakeServer(FakeServicer):
    """The three services and health, listening on 127.0.0.1; a context manager.

    Args:
        max_receive_bytes: The largest request taken.
        port: Where to listen; 0 for any free port.

    Attributes:
        on_watch: Runs when somebody has begun to watch the server's health and has had a first answer.
        health_rejection: What whoever watches the server's health is rejected with.
    """

    def __init__(self, *, max_receive_bytes: int = 64 * 1024 * 1024, port: int = 0) -> None:
        super().__init__()
        self.on_watch: Callable[[], None] | None = None
        self.health_rejection: grpc.StatusCode | None = None
        self.port = port
        self._max_receive_bytes = max_receive_bytes
        self.start()

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, on the same port as before if there was one, and say SERVING."""
        self._server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=16),
            options=[("grpc.max_receive_message_length", self._max_receive_bytes), ("grpc.so_reuseport", 0)],
        )
        embedding_service_pb2_grpc.add_EmbeddingServiceServicer_to_server(self, self._server)
        search_service_pb2_grpc.add_SearchServiceServicer_to_server(self, self._server)
        catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server(self, self._server)
        self._health = _Health(self)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.set_serving(serving=True)
        self.port = self._server.add_insecure_port(self.address)
        self._server.start()

    def go_away(self) -> None:
        """Drop every call at once; may be called while serving one."""
        self._server.stop(grace=None)

    def stop(self) -> None:
        """Go away, and return when nothing listens any more."""
        self._server.stop(grace=None).wait()

    def set_serving(self, *, serving: bool) -> None:
        """What the health service says."""
        states = health_pb2.HealthCheckResponse
        self._health.set("", states.SERVING if serving else states.NOT_SERVING)


class _Health(health.HealthServicer):
    def __init__(self, server: FakeServer) -> None:
        super().__init__()
        self._fake = server

    def Watch(self, *args: Any, **kwargs: Any) -> Any:  # noqa: N802 - health's own name
        """As health has it, unless it is to be rejected."""
        if self._fake.health_rejection:
            args[1].abort(self._fake.health_rejection, "no")
        watcher = super().Watch(*args, **kwargs)
        if self._fake.on_watch:
            self._fake.on_watch()
        return watcher
