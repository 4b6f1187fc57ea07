"""Opens and closes what traces: the spans, and their export in a thread, with a queue that is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from lookalike_server import __version__
from lookalike_server.domain.calls import TraceContext
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.events import Event, Observer, TraceExportFailed
from lookalike_server.domain.observing import E, SelectiveObserver
from lookalike_server.tracing.export import ExportLog, exporters
from lookalike_server.tracing.spans import TRACED, CallSpans

_SCOPE = "lookalike_server"


class Tracing(SelectiveObserver):
    """What a process traces. An observer, and what begins the spans of calls; `close` it after the last event."""

    def __init__(self, observer: Observer) -> None:
        """Trace as the OTEL_... environment variables say, and report failures to export to this observer.

        Raises:
            LookalikeError: FAILED_PRECONDITION where a variable cannot be used.
        """
        self._log = ExportLog(observer)
        self._log.open()
        try:
            self._exporters = exporters()
            self._processors = [BatchSpanProcessor(exporter) for exporter in self._exporters]
            resource = _resource()
            # The sampler judges calls. Parts of a sampled call are recorded, and so is a batch with an image of one.
            calls, parts = (_provider(sampler, resource, self._processors) for sampler in (None, ALWAYS_ON))
        except ValueError as error:
            self._log.close()
            raise LookalikeError(Code.FAILED_PRECONDITION, f"the OTEL_... variables cannot be used: {error}") from error
        except BaseException:
            self._log.close()
            raise
        self._observer = observer
        self._spans = CallSpans(calls.get_tracer(_SCOPE, __version__), parts.get_tracer(_SCOPE, __version__))

    def begin(
        self, method: str, metadata: Sequence[tuple[str, str | bytes]], request_id: str, arrived: float
    ) -> TraceContext:
        """Begin the span of a call; its `CallCompleted` ends it."""
        return self._spans.begin(method, metadata, request_id, arrived)

    def receiver(self, kind: type[E]) -> Callable[[E], None] | None:
        """Return what makes spans of events of this kind; None where there are none."""
        return self._spans if issubclass(kind, TRACED) else None

    def __call__(self, event: Event) -> None:
        """Make the spans of an event."""
        self._spans(event)

    async def close(self, seconds: float) -> None:
        """Export what is left for at most so long, and drop the rest."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def flush() -> None:
            for processor in self._processors:
                processor.shutdown()  # type: ignore[no-untyped-call]
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(done.set)

        # No executor's thread: those are waited for at exit, however long an export takes.
        threading.Thread(target=flush, name="span-flush", daemon=True).start()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await done.wait()
        finally:
            if done.is_set():
                self._log.close()
            else:
                self._log.mute()
                for exporter in self._exporters:
                    exporter.shutdown()  # which ends an export under way
                if self._spans.any_recorded:
                    reason = f"not all spans could be exported within {seconds:g} s at the end"
                    self._observer(TraceExportFailed(reason, 0))


def _resource() -> Resource:
    """Say what this process is; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override it."""
    own = {"service.name": "lookalike-server", "service.version": __version__}
    return Resource.create(own).merge(OTELResourceDetector().detect())


def _provider(sampler: Sampler | None, resource: Resource, processors: Sequence[SpanProcessor]) -> TracerProvider:
    provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    return provider
