"""The log: structlog's set-up, and the observer that turns what the stages report into events."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import structlog

from lookalike_server.protocols import Observer


def configure_log(style: str, level: str, **about: str | int) -> None:
    """Write events to stderr, as text ("console") or a JSON object a line ("json"), each with what it is `about`."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    processors: list[Any] = [
        lambda _, __, event: event | about,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if style == "json":
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # A line and its end in one write: with two, a server that is killed in between spoils the next one's line.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


POOR_RECALL = 0.5
"""Recall of one search below which the log warns."""


class LogObserver(Observer):
    """Logs faults as errors, what an operator should know as warnings, and every call and batch at debug level."""

    def __init__(self) -> None:
        # Bound once: a lazy logger finds its configuration anew for every event.
        self._log: Any = structlog.get_logger().bind()
        self._debug = self._log.is_enabled_for(logging.DEBUG)
        self._told_of_loading = 0.0

    def batch_ran(self, size: int, padded: int, seconds: float) -> None:
        """Log it at debug level."""
        if self._debug:
            self._log.debug("batch ran", size=size, padded=padded, ms=_ms(seconds))

    def batch_failed(self, size: int, error: Exception) -> None:
        """Log it as an error with its traceback."""
        self._log.error("the model failed", batch_size=size, exc_info=error)

    def entries_dropped(self, cancelled: int, expired: int) -> None:
        """Log it at debug level: callers may give up."""
        self._log.debug("photos left the queue", cancelled=cancelled, expired=expired)

    def search_fell_back(self, category: str) -> None:
        """Log it as a warning."""
        self._log.warning("the graph found too little; searched exactly", category=category)

    def category_loaded(self, category: str, products: int, left: int) -> None:
        """Log progress, at most once a second, and the end of it."""
        now = time.monotonic()
        if not left or now - self._told_of_loading > 1.0:
            self._told_of_loading = now
            self._log.info("catalogue loaded" if not left else "loading the catalogue", categories_left=left)
        if self._debug:
            self._log.debug("category loaded", category=category, products=products)

    def graph_built(self, category: str, products: int) -> None:
        """Log it."""
        self._log.info("graph built", category=category, products=products)

    def index_care_failed(self, category: str, error: Exception) -> None:
        """Log it as an error with its traceback."""
        self._log.error("the index could not care for a category", category=category, exc_info=error)

    def index_file_unusable(self, category: str, file: str, reason: str) -> None:
        """Log it as a warning."""
        self._log.warning("an index file cannot be used; built anew", category=category, file=file, reason=reason)

    def index_file_failed(self, category: str, error: Exception) -> None:
        """Log it as a warning: nothing is lost but a start's time."""
        self._log.warning("an index file could not be kept", category=category, error=str(error))

    def recall_measured(self, category: str, recall: float) -> None:
        """Log it at debug level; below a half as a warning, because the graph is then of little use."""
        if recall < POOR_RECALL:
            self._log.warning("the graph found little of the truth", category=category, recall=recall)
        elif self._debug:
            self._log.debug("recall measured", category=category, recall=recall)

    def photo_reused(self, *, cached: bool) -> None:
        """Log it at debug level."""
        if self._debug:
            self._log.debug("photo reused", cached=cached)

    def item_failed(self, error: Exception) -> None:
        """Log it as an error with its traceback."""
        self._log.error("an item failed", exc_info=error)

    def call_ended(self, method: str, code: str, seconds: float, request_id: str, fault: Exception | None) -> None:
        """Log it at debug level, or as an error with its traceback when the fault is ours."""
        if fault is None and not self._debug:
            return
        log = self._log.bind(method=method, code=code, ms=_ms(seconds), request_id=request_id)
        if fault is None:
            log.debug("call")
        else:
            log.error("call failed", exc_info=fault)


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
