"""Shows the progress of an import or an export: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from grpc import StatusCode
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from lookalike_client.errors import LookalikeError

INTERVAL_S = 5.0
"""The least time between two lines."""


class Progressing(Protocol):
    """Something that makes progress."""

    @property
    def done(self) -> int:
        """How many of the total are done."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


class ProgressBar:
    """A bar with counts, rate and time left; a context manager."""

    def __init__(self, console: Console, total: int, unit: str = "rows", verb: str = "importing") -> None:
        columns = (
            TextColumn(verb),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            _Rate(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task(verb, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advanced(self, progress: Progressing) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=progress.done)

    def rejected(self, error: LookalikeError, wait: float) -> None:
        """Print above the bar why it does not move."""
        self._bar.console.print(rejection_line(error, wait), style="yellow")


class ProgressLines:
    """A line every few seconds, for logs; a context manager.

    Args:
        console: Where to print.
        total: The count at the end.
        unit: What is counted, in the plural.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        console: Console,
        total: int,
        unit: str = "rows",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._total = total
        self._unit = unit
        self._clock = clock
        self._start = clock()
        self._last_progress = self._start
        self._last_rejection = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def advanced(self, progress: Progressing) -> None:
        """Print a line, unless the last one is recent."""
        now = self._clock()
        if now - self._last_progress < INTERVAL_S or not progress.done:
            return
        self._last_progress = now
        rate = progress.done / (now - self._start)
        left = max(0, self._total - progress.done) / rate  # the catalog may grow during an export
        counts = f"{progress.done:,} of {self._total:,} {self._unit}"
        self._console.print(f"{counts}, {rate:.1f}/s, about {duration(left)} left", soft_wrap=True)

    def rejected(self, error: LookalikeError, wait: float) -> None:
        """Print why nothing moves, unless the last such line is recent."""
        now = self._clock()
        if now - self._last_rejection >= INTERVAL_S:
            self._last_rejection = now
            self._console.print(rejection_line(error, wait), soft_wrap=True)


def progress_on(console: Console, total: int, unit: str, verb: str) -> ProgressBar | ProgressLines:
    """Return a bar for a terminal, lines elsewhere."""
    return ProgressBar(console, total, unit, verb) if console.is_terminal else ProgressLines(console, total, unit)


def rejection_line(error: LookalikeError, wait: float) -> str:
    """Return one line on why nothing moves."""
    states = {StatusCode.RESOURCE_EXHAUSTED: "busy", StatusCode.UNAVAILABLE: "unavailable"}
    return (
        f"the server is {states.get(error.code, 'slow')} ({' '.join(error.reason.split())}); retrying in {wait:.1f} s"
    )


def duration(seconds: float) -> str:
    """Format seconds in s, min or h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
