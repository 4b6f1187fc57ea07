"""Logging: structlog's configuration, and the observer that logs the stages' events."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, assert_never

import structlog

from lookalike_server.domain import events


def configure_log(log_format: str, level: str, **context: str | int) -> None:
    """Write events to stderr, as text ("console") or one JSON object per line ("json"), each with this context."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
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


POOR_RECALL = 0.5
"""The recall of a search below which the log warns."""


class LogObserver:
    """Logs faults as errors, what an operator should see as warnings, and every call and batch at debug level."""

    def __init__(self) -> None:
        # Bound once: a lazy logger looks up its configuration for every event.
        self._log: Any = structlog.get_logger().bind()
        self._debug = self._log.is_enabled_for(logging.DEBUG)
        self._progress_logged = 0.0

    def __call__(self, event: events.Event) -> None:
        """Log one event."""
        match event:
            # First, because every call and batch comes here, and not even formatted where the level is above debug.
            case events.CallCompleted(fault=None) | events.BatchCompleted() | events.EmbeddingReused() if (
                not self._debug
            ):
                pass
            case events.CallCompleted(fault=None):
                self._log.debug("call_completed", **_call_fields(event))
            case events.CallCompleted():
                self._log.error("call_failed", **_call_fields(event), exc_info=event.fault)
            case events.BatchCompleted():
                self._log.debug(
                    "batch_completed", size=event.size, padded_size=event.padded_size, ms=_ms(event.seconds)
                )
            case events.EmbeddingReused():
                self._log.debug("embedding_reused", cached=event.cached)
            case events.ImagesDropped():
                self._log.debug("images_dropped", cancelled=event.cancelled, expired=event.expired)
            case events.BatchFailed():
                self._log.error("batch_failed", size=event.size, exc_info=event.error)
            case events.ItemFailed():
                self._log.error("item_failed", exc_info=event.error)
            case events.SearchFellBack():
                self._log.warning("search_fell_back", category=event.category)
            case events.RecallMeasured():
                level = logging.WARNING if event.recall < POOR_RECALL else logging.DEBUG
                self._log.log(level, "recall_measured", category=event.category, recall=event.recall)
            case events.CategoryLoaded():
                self._log_loading(event)
            case events.GraphBuilt():
                self._log.info("graph_built", category=event.category, products=event.products)
            case events.IndexMaintenanceFailed():
                self._log.error("index_maintenance_failed", category=event.category, exc_info=event.error)
            case events.GraphFileUnusable():
                self._log.warning("graph_file_unusable", category=event.category, file=event.file, reason=event.reason)
            case events.GraphFileFailed():
                self._log.warning("graph_file_failed", category=event.category, error=str(event.error))
            case _:
                assert_never(event)

    def _log_loading(self, event: events.CategoryLoaded) -> None:
        """Log progress at most once a second, and its end."""
        now = time.monotonic()
        if not event.remaining or now - self._progress_logged > 1.0:
            self._progress_logged = now
            self._log.info("catalog_loading" if event.remaining else "catalog_loaded", remaining=event.remaining)
        self._log.debug("category_loaded", category=event.category, products=event.products)


def _call_fields(event: events.CallCompleted) -> dict[str, str | float]:
    return {
        "method": event.method,
        "code": event.code,
        "ms": _ms(event.seconds),
        "request_id": event.request_id,
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
