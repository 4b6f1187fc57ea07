"""Deadlines: a call without one gets the default; streams have none of ours, because they may go on for hours."""

from __future__ import annotations

import math
from typing import cast

from lookalike_server.domain.calls import Call, Caller
from lookalike_server.rpc.call_context import CallRecord, Context
from lookalike_server.rpc.interceptors.handlers import Method


def call_times(
    method: Method,
    record: CallRecord,
    context: Context,
    default_seconds: float,
    caller: Caller,
    categories: frozenset[str] | None = None,
) -> tuple[Call, float | None]:
    """Return the call's times for the stages, and after how many seconds to end it: None where gRPC does or nobody.

    The remaining time is read once, because gRPC measures it by the wall clock and we by a monotonic one.
    """
    trace = record.trace if record.trace is not None and record.trace.sampled else None
    remaining = cast("float | None", context.time_remaining())  # None without a deadline, whatever its stub says
    if remaining is not None:
        return Call(record.arrived, record.arrived + remaining, caller, categories, trace), None
    if method.streams_responses:
        return Call(record.arrived, math.inf, caller, categories, trace), None
    return Call(record.arrived, record.arrived + default_seconds, caller, categories, trace), default_seconds
