"""Decides from its health service when a server is ready; the clients do the waiting."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2

from lookalike_client.connection_failures import connection_failure
from lookalike_client.errors import LookalikeError, from_rpc_error

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"

POLL_INTERVAL_S = 0.2
"""Between two watches, so that a server which ends each watch at once is not flooded."""

# what a server that starts, stops or restarts responds with; every other error is permanent
_TRANSIENT = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})


class Readiness:
    """One wait for a server, with a deadline on the caller's clock.

    Args:
        target: The server's address, for the message.
        timeout: Seconds to wait at most.
        now: The caller's monotonic clock.
    """

    def __init__(self, target: str, timeout: float, now: float) -> None:
        self._target = target
        self._timeout = timeout
        self._until = now + timeout
        self._last = "no response"

    def seconds_left(self, now: float) -> float:
        """Return the seconds left to wait.

        Raises:
            LookalikeError: DEADLINE_EXCEEDED when none are left.
        """
        if now >= self._until:
            raise self._not_ready()
        return self._until - now

    def is_serving(self, response: health_pb2.HealthCheckResponse) -> bool:
        """Return whether the wait is over."""
        self._last = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
        return response.status == health_pb2.HealthCheckResponse.SERVING

    def check_transient(self, error: grpc.RpcError) -> None:
        """Return where watching again makes sense.

        Raises:
            LookalikeError: It does not: the time is up, or the error is permanent.
        """
        code = error.code()
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise self._not_ready() from error
        details = error.details() or ""
        failure = connection_failure(details)
        if code not in _TRANSIENT or (failure and failure.permanent):
            raise from_rpc_error(error) from error
        unanswered = not failure and details.startswith("failed to connect")
        self._last = f"no response: {details}" if unanswered else str(from_rpc_error(error))

    def _not_ready(self) -> LookalikeError:
        return LookalikeError(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            f"the server at {self._target} was not ready within {self._timeout:g} s (last: {self._last})",
        )
