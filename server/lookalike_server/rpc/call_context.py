"""The moments of the call that this task answers; noted once, on arrival, by the guard."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Any, TypeAlias, cast

import grpc

from lookalike_server.domain.inference import Call

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

CURRENT: ContextVar[Call] = ContextVar("call")


def note_call(context: Context, default_seconds: float) -> bool:
    """Note when the call came and when it must be answered, and return whether it brought that deadline itself.

    Without one it has `default_seconds`. The remaining time is read once: gRPC counts it by the wall clock, we by a
    steady one.
    """
    now = time.monotonic()
    remaining = cast("float | None", context.time_remaining())  # None without a deadline, whatever its stub says
    CURRENT.set(Call(arrived=now, deadline=now + (default_seconds if remaining is None else remaining)))
    return remaining is not None
