"""The moments of the call that this task answers; noted once, on arrival, by the guard."""

from __future__ import annotations

import math
import time
from contextvars import ContextVar
from typing import Any, TypeAlias, cast

import grpc

from lookalike_server.domain import Call

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

CURRENT: ContextVar[Call] = ContextVar("call")


def note_call(context: Context, default_seconds: float) -> Call:
    """Note when the call came and when it must be answered; without a deadline of its own, in so many seconds.

    The remaining time is read once: gRPC counts it by the wall clock, we by a steady one.
    """
    now = time.monotonic()
    remaining = cast("float | None", context.time_remaining())  # None without a deadline, whatever its stub says
    call = Call(arrived=now, deadline=now + (default_seconds if remaining is None else remaining))
    CURRENT.set(call)
    return call


def timeout_of(call: Call) -> float | None:
    """Seconds until the call's deadline, for asyncio; None where there is none."""
    return None if math.isinf(call.deadline) else max(0.0, call.deadline - time.monotonic())
