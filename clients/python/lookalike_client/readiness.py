"""Decides when a server is ready, from what its health service says; the clients do the waiting."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2

from lookalike_client.errors import LookalikeError, from_rpc_error

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"

PAUSE_S = 0.2
"""Between two looks, so that a server which ends every look at once is not pestered."""

# what a server that starts, stops or restarts answers; everything else will not pass by itself
_PASSING = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})


class Readiness:
    """One wait for a server, until a moment of the caller's clock.

    Args:
        target: The server's address, for the message.
        timeout: Seconds to wait at most.
        now: The caller's monotonic clock.
    """

    def __init__(self, target: str, timeout: float, now: float) -> None:
        self._target = target
        self._timeout = timeout
        self._until = now + timeout
        self._last = "no answer"

    def seconds_left(self, now: float) -> float:
        """Seconds left to wait.

        Raises:
            LookalikeError: DEADLINE_EXCEEDED when there are none.
        """
        if now >= self._until:
            raise self._not_ready()
        return self._until - now

    def is_serving(self, answer: health_pb2.HealthCheckResponse) -> bool:
        """Whether the wait is over."""
        self._last = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        return answer.status == health_pb2.HealthCheckResponse.SERVING

    def after(self, error: grpc.RpcError) -> None:
        """Return where another look makes sense.

        Raises:
            LookalikeError: It does not: time is up, or the server will never say that it is ready.
        """
        code = error.code()
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise self._not_ready() from error
        if code not in _PASSING:
            raise from_rpc_error(error) from error
        self._last = str(from_rpc_error(error))

    def _not_ready(self) -> LookalikeError:
        return LookalikeError(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            f"the server at {self._target} was not ready within {self._timeout:g} s (last: {self._last})",
        )
