"""What is known of the call that the current task serves."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import grpc

from lookalike_server.domain.inference import Call

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(slots=True)
class CallRecord:
    """One call for the access log.

    Attributes:
        metadata: What the caller sent.
        request_id: The call's `x-request-id`.
        code: The name of its gRPC code, once it has failed.
        fault: The error where it is a fault of the server.
    """

    metadata: tuple[tuple[str, str | bytes], ...]
    request_id: str
    code: str = "OK"
    fault: Exception | None = None


RECORD: ContextVar[CallRecord] = ContextVar("record")
CURRENT: ContextVar[Call] = ContextVar("call")


def note_call(context: Context, default_seconds: float) -> bool:
    """Note when the call arrived and when its deadline is; return whether the caller set that deadline.

    Without one it has `default_seconds`. The remaining time is read once, because gRPC measures it by the wall clock
    and we by a monotonic one.
    """
    now = time.monotonic()
    remaining = cast("float | None", context.time_remaining())  # None without a deadline, whatever its stub says
    CURRENT.set(Call(arrived=now, deadline=now + (default_seconds if remaining is None else remaining)))
    return remaining is not None
