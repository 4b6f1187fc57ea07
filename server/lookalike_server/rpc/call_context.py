"""What is known of a call that is being served."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc

from lookalike_server.domain.calls import Call, TraceContext
from lookalike_server.domain.errors import Rejection

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(slots=True)
class CallRecord:
    """One call for the access log.

    Attributes:
        arrived: When it arrived.
        metadata: What the caller sent.
        request_id: The call's `x-request-id`.
        code: The name of its gRPC code, once it has failed.
        fault: The error where it is a fault of the server.
        rejection: Why the server rejected the call, where it did.
        trace: Where it is in a trace; None without tracing.
    """

    arrived: float
    metadata: tuple[tuple[str, str | bytes], ...]
    request_id: str
    code: str = "OK"
    fault: Exception | None = None
    rejection: Rejection | None = None
    trace: TraceContext | None = None

    @property
    def trailers(self) -> tuple[tuple[str, str], ...]:
        """What the caller gets back at the end: its request id, and its place in a trace."""
        request_id = ("x-request-id", self.request_id)
        return (request_id,) if self.trace is None else (request_id, ("traceresponse", str(self.trace)))


CURRENT: ContextVar[Call] = ContextVar("call")
"""The call that the current task serves: gRPC gives the services a request and its own context only."""

STREAM_CHECK: ContextVar[Callable[[], None]] = ContextVar("stream_check")
"""What the current task's stream calls at each message: raises LookalikeError once its caller may not go on."""
