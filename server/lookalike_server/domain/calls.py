"""Calls and who makes them. Times are `time.monotonic()`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes calls: the owner of a token, or an address.

    Attributes:
        name: What its calls are counted under.
        weight: Its share of a contended resource, relative to the other callers.
    """

    name: str
    weight: float = 1.0


ANYBODY = Caller("")
"""The caller where nobody tells callers apart."""


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Where a call is in a trace: the span under which its stages are, as W3C Trace Context names it.

    Attributes:
        trace_id: 128 bits, of the whole trace.
        span_id: 64 bits, of the call's span.
        sampled: Whether the trace is recorded.
    """

    trace_id: int
    span_id: int
    sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.sampled:02x}"


BeginSpan: TypeAlias = Callable[[str, Sequence[tuple[str, str | bytes]], str, float], TraceContext]
"""Begins the span of a call: its method, its metadata, its request id, and when it arrived. `CallCompleted` ends it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call.

    Attributes:
        arrived: When it arrived.
        deadline: Until when its response must be ready; infinite for no deadline.
        caller: Who makes it.
        categories: The only categories that it may touch; None for all.
        trace: The trace that its stages belong to; None where it is not recorded.
    """

    arrived: float
    deadline: float
    caller: Caller = ANYBODY
    categories: frozenset[str] | None = None
    trace: TraceContext | None = None

    def for_item(self) -> Call:
        """Return the call of an item of a stream that arrives now, with the same deadline."""
        return replace(self, arrived=time.monotonic())
