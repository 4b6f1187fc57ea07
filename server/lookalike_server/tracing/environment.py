"""Whether there are traces: what the standard OTEL_... environment variables say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.events import Observer

if TYPE_CHECKING:
    from lookalike_server.tracing.tracing import Tracing

_MAX_FLUSH_SECONDS = 5.0

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def reason_to_trace(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the environment variable by which traces are on; None where they are off."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter:
        return None if exporter == "none" else "OTEL_TRACES_EXPORTER"
    return next((name for name in _ENDPOINTS if environment.get(name, "").strip()), None)


def flush_seconds(grace_seconds: float) -> float:
    """Return for how long a process exports what is left when it ends; the engine process does after the others."""
    return min(_MAX_FLUSH_SECONDS, grace_seconds / 2)


def open_tracing(observer: Observer) -> Tracing | None:
    """Trace calls as the OTEL_... environment variables say; None where they say nothing.

    Args:
        observer: Receives the failures to export.

    Raises:
        LookalikeError: FAILED_PRECONDITION where OpenTelemetry is not installed, or a variable cannot be used.
    """
    reason = reason_to_trace()
    if reason is None:
        return None
    try:
        from lookalike_server.tracing.tracing import Tracing
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("opentelemetry"):
            raise
        raise LookalikeError(
            Code.FAILED_PRECONDITION,
            f"{reason} asks for traces, and OpenTelemetry is not installed: pip install 'lookalike-server[otel]', or"
            " set OTEL_SDK_DISABLED=true",
        ) from error
    return Tracing(observer)
