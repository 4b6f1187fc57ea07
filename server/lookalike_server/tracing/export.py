"""Where spans go, as the OTEL_... environment variables say, and the words of OpenTelemetry's log in ours."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.events import Observer, TraceExportFailed

REPORT_SECONDS = 30.0
"""In which one failure of a kind is reported, and the others are counted."""

_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def exporters() -> list[SpanExporter]:
    """Make the exporters that OTEL_TRACES_EXPORTER names; one by OTLP where it names none.

    Raises:
        LookalikeError: FAILED_PRECONDITION where it, or what it needs, cannot be used.
    """
    names = os.environ.get("OTEL_TRACES_EXPORTER", "").lower().split(",")
    return [_exporter(name.strip()) for name in names if name.strip()] or [_exporter("otlp")]


def _exporter(name: str) -> SpanExporter:
    if name == "console":
        return ConsoleSpanExporter()
    if name != "otlp":
        raise _unusable(f"OTEL_TRACES_EXPORTER is {name!r}, which is none of otlp, console and none")
    variable = next((each for each in _PROTOCOLS if os.environ.get(each, "").strip()), _PROTOCOLS[0])
    protocol = os.environ.get(variable, "").strip().lower() or "grpc"
    try:
        if protocol == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

            return GrpcExporter()
        if protocol == "http/protobuf":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

            http: SpanExporter = HttpExporter()
            return http
    except ModuleNotFoundError as error:
        raise _unusable(
            f"{variable} is {protocol}, which is not installed: pip install opentelemetry-exporter-otlp-proto-http, or"
            " set it to grpc"
        ) from error
    except Exception as error:
        # Not its words, which may quote a header, and so a key.
        kind = type(error).__name__
        raise _unusable(f"the OTEL_EXPORTER_OTLP_... variables cannot be used ({kind}); check their values") from error
    raise _unusable(f"{variable} is {protocol!r}, which is neither grpc nor http/protobuf")


def _unusable(message: str) -> LookalikeError:
    return LookalikeError(Code.FAILED_PRECONDITION, message)


class ExportLog(logging.Handler):
    """Reports what OpenTelemetry logs: of each kind one message in a while, with the number of the others.

    It comes in any thread. Nothing of it is a fault of the server: a collector may be down, or slower than the spans.
    """

    _LOGGER = logging.getLogger("opentelemetry")

    def __init__(self, observer: Observer, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._observer = observer
        self._clock = clock
        self._counting = threading.Lock()
        self._muted = False
        self._kinds: dict[str, tuple[float, int]] = {}

    def open(self) -> None:
        """Receive what it logs, instead of standard error."""
        self._LOGGER.addHandler(self)
        self._LOGGER.propagate = False

    def mute(self) -> None:
        """Report nothing from now on, for what an export still says that is not waited for."""
        self._muted = True

    def close(self) -> None:
        """Leave the rest to others."""
        self._LOGGER.removeHandler(self)
        self._LOGGER.propagate = True
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Report a message, or count it."""
        if self._muted:
            return
        kind = str(record.msg)
        with self._counting:
            now = self._clock()
            until, repeated = self._kinds.get(kind, (0.0, 0))
            if now < until:
                self._kinds[kind] = until, repeated + 1
                return
            self._kinds[kind] = now + REPORT_SECONDS, 0
        # The arguments of what parses headers are headers, and so keys.
        reason = kind if record.name == "opentelemetry.util.re" else record.getMessage()
        self._observer(TraceExportFailed(reason, repeated))
