"""The three pages: `/metrics`, `/healthz` and `/readyz`."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from lookalike_server.monitoring.exchange import Request, Response
from lookalike_server.monitoring.http_server import Answer
from lookalike_server.rpc.readiness import Readiness

_PATHS = ("/metrics", "/healthz", "/readyz")


class Pages:
    """Answers requests by their paths."""

    def __init__(self, metrics: Answer, readiness: Callable[[], Readiness]) -> None:
        """Serve these metrics, and say whether the server is ready as gRPC's health does."""
        self._metrics = metrics
        self._readiness = readiness

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        if request.path == "/metrics":
            return await self._metrics(request)
        if request.path == "/healthz":
            return Response(HTTPStatus.OK, "alive\n")
        if request.path == "/readyz":
            readiness = self._readiness()
            status = HTTPStatus.OK if readiness is Readiness.SERVING else HTTPStatus.SERVICE_UNAVAILABLE
            return Response(status, f"{readiness.sentence}\n")
        return Response(HTTPStatus.NOT_FOUND, f"there are {', '.join(_PATHS)}\n")
