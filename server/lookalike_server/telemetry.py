"""Logging: structlog's configuration, and the observer that logs the stages' events."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, assert_never

import structlog

from lookalike_server.domain import events
from lookalike_server.domain.calls import TraceContext
from lookalike_server.domain.observing import E, SelectiveObserver
from lookalike_server.rejection_log import RejectionLog, StartTimer


def configure_log(log_format: str, level: str, **context: str | int) -> None:
    """Write events to stderr, as text ("console") or one JSON object per line ("json"), each with this context."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        # With rich installed the default would print the local variables of every frame: tokens, images, embeddings.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    processors: list[Any] = [
        lambda _, __, event: event | context,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "json":
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # A line and its end in one write: a server killed between two would spoil the first line of the next one.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


FAULT_SECONDS = 1.0
"""In which one fault of a kind is logged, and the others are counted."""

POOR_RECALL = 0.5
"""The recall of a search below which the log warns."""


@dataclass(slots=True)
class _Burst:
    """Faults of one kind: until when the next ones are only counted, how many were, and what is known of the last."""

    until: float = -math.inf
    count: int = 0
    event: str = ""
    fields: dict[str, str | float] = field(default_factory=dict)


class _FaultLog:
    """Logs faults, those of one kind once a second: each is a line of its own, or one of `repeated=N` in a later line.

    A kind is an event, the method where there is one, and the type of the error. Of those that were only counted, the
    traceback is not kept, because it would keep the images and embeddings of its frames.
    """

    def __init__(self, log: Any, clock: Callable[[], float]) -> None:
        self.log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._bursts: defaultdict[tuple[str, str | float, type[Exception]], _Burst] = defaultdict(_Burst)
        self.is_counting = False
        """Whether there are faults that no line has reported yet."""

    def error(self, event: str, error: Exception, **fields: str | float) -> None:
        """Log a fault, or count it."""
        with self._lock:
            burst = self._bursts[event, fields.get("method", ""), type(error)]
            now = self._clock()
            if now < burst.until:
                burst.count += 1
                burst.event, burst.fields = event, fields | {"error": f"{type(error).__name__}: {error}"}
                self.is_counting = True
                return
            repeated, burst.count, burst.until = burst.count, 0, now + FAULT_SECONDS
        self.log.error(event, **fields, **_repeated(repeated), exc_info=error)

    def flush(self, *, all_of_them: bool) -> None:
        """Log the last of those that were counted with the number of the others: if its second is over, or anyway."""
        lines = []
        with self._lock:
            now = self._clock()
            for burst in self._bursts.values():
                if burst.count and (all_of_them or now >= burst.until):
                    lines.append((burst.event, burst.fields, burst.count - 1))
                    burst.count, burst.until = 0, now + FAULT_SECONDS
            self.is_counting = any(burst.count for burst in self._bursts.values())
        for event, fields, repeated in lines:
            self.log.error(event, **fields, repeated=repeated)


_NOT_LOGGED = (
    events.ImagesEmbedded,
    events.EmbeddingMissed,
    events.StageCompleted,
    events.SearchPredicted,
    events.CallStarted,
    events.TransactionCommitted,
    events.EventLoopLagged,
    events.StageTraced,
)
"""What is counted or traced only."""


class LogObserver(SelectiveObserver):
    """Logs faults as errors, what an operator should see as warnings, and every call and batch at debug level.

    Faults of one kind are logged once a second, with the number of the others; rejected calls once a minute.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, timer: StartTimer = threading.Timer) -> None:
        # Bound once: a lazy logger looks up its configuration for every event.
        self._log: Any = structlog.get_logger().bind()
        self._debug = self._log.is_enabled_for(logging.DEBUG)
        self._clock = clock
        self._progress_logged = -math.inf
        self._faults = _FaultLog(self._log, clock)
        self._rejections = RejectionLog(self._log, clock, timer)

    def reconfigure(self) -> None:
        """Log by the configuration of now."""
        self._log = structlog.get_logger().bind()
        self._debug = self._log.is_enabled_for(logging.DEBUG)
        self._faults.log = self._rejections.log = self._log

    def flush(self) -> None:
        """Log the faults and rejected calls since the last line about them; call it when no more events come."""
        self._faults.flush(all_of_them=True)
        self._rejections.flush()

    def receiver(self, kind: type[E]) -> Callable[[E], None] | None:
        """Receive what is logged, whatever the level is."""
        return None if issubclass(kind, _NOT_LOGGED) else self

    def __call__(self, event: events.Event) -> None:
        """Log one event."""
        if self._faults.is_counting:
            self._faults.flush(all_of_them=False)
        match event:
            # First, because every call and batch comes here, and not even formatted where the level is above debug.
            case events.CallCompleted(fault=None) | events.BatchCompleted() | events.EmbeddingReused() if (
                not self._debug
            ):
                pass
            case events.CallCompleted():
                if event.fault is None:
                    self._log.debug("call_completed", **_call_fields(event))
                else:
                    self._faults.error("call_failed", event.fault, **_call_fields(event))
            case events.CallRejected():
                self._rejections.add(event)
            case events.BatchCompleted():
                self._log.debug(
                    "batch_completed", size=event.size, padded_size=event.padded_size, ms=_ms(event.seconds)
                )
            case events.EmbeddingReused():
                self._log.debug("embedding_reused", cached=event.cached)
            case events.ImagesDropped():
                self._log.debug("images_dropped", cancelled=event.cancelled, expired=event.expired)
            case events.BatchFailed():
                self._faults.error("batch_failed", event.error, size=event.size)
            case events.BatchSplit():
                self._log.warning("batch_split", size=event.size, reason=str(event.error))
            case events.ItemFailed():
                self._faults.error("item_failed", event.error)
            case events.SearchFellBack():
                self._log.warning("search_fell_back", category=event.category)
            case events.DeviceSearchFailed():
                self._log.warning("device_search_failed", category=event.category, reason=str(event.error))
            case events.RecallMeasured():
                level = logging.WARNING if event.recall < POOR_RECALL else logging.DEBUG
                self._log.log(level, "recall_measured", category=event.category, recall=event.recall)
            case events.CategoriesLoaded():
                self._log_loading(event)
            case events.GraphBuilt():
                self._log.info("graph_built", category=event.category, products=event.products)
            case events.IndexMaintenanceFailed():
                self._faults.error("index_maintenance_failed", event.error, category=event.category)
            case events.GraphFileUnusable():
                self._log.warning("graph_file_unusable", category=event.category, file=event.file, reason=event.reason)
            case events.GraphFileFailed():
                self._log.warning("graph_file_failed", category=event.category, error=str(event.error))
            case events.RowFileUnusable():
                self._log.warning("row_file_unusable", category=event.category, file=event.file, reason=event.reason)
            case events.RowFileFailed():
                self._log.warning("row_file_failed", error=str(event.error))
            case events.CatalogDamaged():
                self._log.error("catalog_damaged", error=str(event.error), remedy=event.remedy)
            case events.VectorDamaged():
                self._log.error("vector_damaged", product_id=event.product_id, image_index=event.image_index)
            case events.CatalogChecked():
                level = logging.ERROR if event.damaged else logging.INFO
                self._log.log(level, "catalog_checked", vectors=event.vectors, damaged=event.damaged)
            case events.CatalogCheckFailed():
                self._log.warning("catalog_check_failed", error=str(event.error))
            case events.CredentialsFileReloaded():
                self._log.info("credentials_reloaded", file=event.file)
            case events.CredentialsFileRejected():
                self._log.error("credentials_not_reloaded", file=event.file, reason=event.reason)
            case events.TraceExportFailed():
                self._log.warning("trace_export_failed", reason=event.reason, **_repeated(event.repeated))
            case events.AuditLogFailed():
                self._faults.error("audit_log_failed", event.error, file=event.file)
            case (
                events.ImagesEmbedded()
                | events.EmbeddingMissed()
                | events.StageCompleted()
                | events.SearchPredicted()
                | events.CallStarted()
                | events.TransactionCommitted()
                | events.EventLoopLagged()
                | events.StageTraced()
            ):
                pass  # counted or traced only
            case _:
                assert_never(event)

    def _log_loading(self, event: events.CategoriesLoaded) -> None:
        """Log progress at most once a second, and its end."""
        now = self._clock()
        if not event.remaining or now - self._progress_logged > 1.0:
            self._progress_logged = now
            self._log.info("catalog_loading" if event.remaining else "catalog_loaded", remaining=event.remaining)
        self._log.debug("categories_loaded", first=event.categories[0], categories=len(event.categories))


def _call_fields(event: events.CallCompleted) -> dict[str, str | float]:
    fields: dict[str, str | float] = {
        "method": event.method,
        "code": event.code,
        "ms": _ms(event.seconds),
        "request_id": event.request_id,
    }
    return fields | _trace_fields(event.trace)


def _trace_fields(trace: TraceContext | None) -> dict[str, str | float]:
    """Name a call's place in a trace as OpenTelemetry's logs do."""
    return {} if trace is None else {"trace_id": f"{trace.trace_id:032x}", "span_id": f"{trace.span_id:016x}"}


def _repeated(count: int) -> dict[str, int]:
    return {"repeated": count} if count else {}


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
