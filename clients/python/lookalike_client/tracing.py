"""Trace context: a call carries that of the application that makes it, where the application uses OpenTelemetry."""

from __future__ import annotations

import sys


def trace_metadata() -> tuple[tuple[str, str], ...]:
    """Return `traceparent`, and `tracestate` if there is one, of the current span; nothing where there is none.

    Who uses OpenTelemetry has imported it. For all others it is not imported, installed or not.
    """
    if "opentelemetry.trace" not in sys.modules:
        return ()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return tuple(carrier.items())
