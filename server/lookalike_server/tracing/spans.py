"""The spans of calls, of their stages and of batches, by OpenTelemetry's conventions for gRPC.

No span has an image, a vector, a key, an id of a product, a value of an attribute, or the words of an error, which may
quote any of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lookalike_server.domain import events
from lookalike_server.domain.calls import TraceContext
from lookalike_server.domain.errors import LookalikeError, ServerError

MAX_PARTS = 256
"""The most spans of stages of one call: a stream of an hour would fill its trace, and the queue of all others."""

_MAX_COUNTED = 10_000  # calls whose spans are counted; of those that came to this process from another no end is seen
_CLOCK_STEP_NS = 1_000_000

_CODES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
"""By their numbers, https://grpc.io/docs/guides/status-codes/."""

_SERVER_ERRORS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
"""The codes with which a server's span is an error by https://opentelemetry.io/docs/specs/semconv/rpc/grpc/."""

TRACED = (
    events.CallRejected,
    events.CallCompleted,
    events.StageTraced,
    events.BatchCompleted,
    events.BatchFailed,
    events.ImagesDropped,
    events.EmbeddingReused,
)
"""The events of which spans are made."""

_PROPAGATOR = TraceContextTextMapPropagator()
_NO_PARENT = Context()


class _WallClock:
    """Turns `time.monotonic()` into nanoseconds since 1970, of which the clock of this machine's wall may step."""

    def __init__(self) -> None:
        self._offset = 0

    def __call__(self, seconds: float) -> int:
        offset = time.time_ns() - time.monotonic_ns()
        # Else the same, so that what began later never seems to have begun sooner.
        if abs(offset - self._offset) > _CLOCK_STEP_NS:
            self._offset = offset
        return round(seconds * 1e9) + self._offset


class CallSpans:
    """An observer. Events with a trace come from the event loop."""

    def __init__(self, calls: Tracer, parts: Tracer) -> None:
        """Make the spans of calls, which are sampled, and those of parts of these, which all are recorded."""
        self._calls = calls
        self._parts = parts
        self._wall_clock = _WallClock()
        self.any_recorded = False
        """Whether there was anything to export."""
        self._open: dict[int, Span] = {}
        self._counts: OrderedDict[int, int] = OrderedDict()

    def begin(
        self, method: str, metadata: Sequence[tuple[str, str | bytes]], request_id: str, arrived: float
    ) -> TraceContext:
        """Begin the span of a call, as a child of what its `traceparent` names."""
        name, attributes = _of_method(method)
        span = self._calls.start_span(
            name, _parent(metadata), SpanKind.SERVER, attributes, (), self._wall_clock(arrived)
        )
        context = span.get_span_context()
        sampled = context.trace_flags.sampled
        if sampled:
            span.set_attribute("lookalike.request_id", request_id)
            self._open[context.span_id] = span
            self.any_recorded = True
        return TraceContext(context.trace_id, context.span_id, sampled)

    def __call__(self, event: events.Event) -> None:
        """Make the spans of an event, where its call is recorded."""
        match event:
            case events.CallCompleted(trace=TraceContext(sampled=True) as trace):
                self._end(trace, event)
            case events.CallRejected(trace=TraceContext(sampled=True) as trace):
                if trace.span_id in self._open:
                    self._open[trace.span_id].add_event("rejected", {"lookalike.reason": str(event.reason)})
            case events.StageTraced():
                self._add(event.stage, event.trace, event.started, event.started + event.seconds, error=event.error)
            case events.BatchCompleted(traced=[_, *_]):
                self._add_batch(event)
            case events.BatchFailed(traced=[_, *_]):
                self._add_failed_batch(event)
            case events.ImagesDropped(traced=[_, *_]):
                now = time.monotonic()
                for image in event.traced:
                    self._add("queue", image.trace, image.arrived, now, {"lookalike.dropped": True})
            case events.EmbeddingReused(trace=TraceContext() as trace):
                now = time.monotonic()
                found = "hit" if event.cached else "in_flight"
                self._add("embedding_cache", trace, now, now, {"lookalike.cache": found})
            case _:
                pass

    def _end(self, trace: TraceContext, event: events.CallCompleted) -> None:
        span = self._open.pop(trace.span_id, None)
        if span is None:
            return
        span.set_attribute("rpc.grpc.status_code", _CODES.index(event.code))
        if event.fault is not None:
            span.add_event("exception", {"exception.type": _type_name(event.fault)})
        if event.code in _SERVER_ERRORS:
            span.set_attribute("error.type", event.code)
            span.set_status(StatusCode.ERROR)
        left_out = self._counts.pop(trace.span_id, 0) - MAX_PARTS
        if left_out > 0:
            span.set_attribute("lookalike.spans_left_out", left_out)
        span.end(self._wall_clock(time.monotonic()))

    def _add_batch(self, event: events.BatchCompleted) -> None:
        ended = event.started + event.seconds
        sizes = {"lookalike.batch.size": event.size, "lookalike.batch.padded_size": event.padded_size}
        batch = self._batch(event.traced, sizes, event.started)
        batch.end(self._wall_clock(ended))
        links = [Link(batch.get_span_context())]
        for image in event.traced:
            self._add("queue", image.trace, image.arrived, event.started)
            self._add("inference", image.trace, event.started, ended, sizes, links)

    def _add_failed_batch(self, event: events.BatchFailed) -> None:
        now = time.monotonic()
        sizes = {"lookalike.batch.size": event.size}
        batch = self._batch(event.traced, sizes, event.started)
        batch.add_event("exception", {"exception.type": _type_name(event.error)})
        batch.set_status(StatusCode.ERROR)
        batch.end(self._wall_clock(now))
        links = [Link(batch.get_span_context())]
        for image in event.traced:
            self._add("queue", image.trace, image.arrived, event.started)
            self._add("inference", image.trace, event.started, now, sizes, links, event.error)

    def _batch(self, images: Sequence[events.TracedImage], sizes: Mapping[str, int], started: float) -> Span:
        """Begin the span of a batch: a trace of its own, because it is of many calls, with a link to each."""
        links = [Link(self._span_context(trace)) for trace in {image.trace: None for image in images}]
        return self._parts.start_span("batch", _NO_PARENT, SpanKind.INTERNAL, sizes, links, self._wall_clock(started))

    def _add(
        self,
        name: str,
        trace: TraceContext,
        started: float,
        ended: float,
        attributes: Mapping[str, str | int | bool] | None = None,
        links: Sequence[Link] = (),
        error: BaseException | None = None,
    ) -> None:
        """Add the span of a stage to a call."""
        count = self._counts[trace.span_id] = self._counts.get(trace.span_id, 0) + 1
        if len(self._counts) > _MAX_COUNTED:
            self._counts.popitem(last=False)
        if count > MAX_PARTS:
            return
        self.any_recorded = True
        parent = set_span_in_context(NonRecordingSpan(self._span_context(trace)), _NO_PARENT)
        span = self._parts.start_span(name, parent, SpanKind.INTERNAL, attributes, links, self._wall_clock(started))
        if error is not None:
            span.set_attribute("error.type", _error_type(error))
            if not isinstance(error, asyncio.CancelledError):
                span.set_status(StatusCode.ERROR)
        span.end(self._wall_clock(ended))

    def _span_context(self, trace: TraceContext) -> SpanContext:
        is_remote = trace.span_id not in self._open  # the call is another process's
        return SpanContext(trace.trace_id, trace.span_id, is_remote, TraceFlags(TraceFlags.SAMPLED))


def _parent(metadata: Sequence[tuple[str, str | bytes]]) -> Context:
    carrier = {key: str(value) for key, value in metadata if key in {"traceparent", "tracestate"}}
    return _PROPAGATOR.extract(carrier, _NO_PARENT) if carrier else _NO_PARENT


@lru_cache(256)
def _of_method(method: str) -> tuple[str, Mapping[str, str]]:
    """Return the name of a method's spans, and their attributes."""
    name = method.removeprefix("/")
    service, _, rpc_method = name.partition("/")
    return name, {"rpc.system": "grpc", "rpc.service": service, "rpc.method": rpc_method}


def _error_type(error: BaseException) -> str:
    """Name an error: by its code where it is the caller's, else by its type."""
    if isinstance(error, asyncio.CancelledError):
        return "CANCELLED"
    public = error.public if isinstance(error, ServerError) else error
    return public.code.name if isinstance(public, LookalikeError) else _type_name(error)


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
