"""Shows an import or an export under way: a bar on a terminal, a line every few seconds elsewhere."""

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

EVERY_S = 5.0


class Done(Protocol):
    """How far something is."""

    @property
    def done(self) -> int:
        """How many of the total are dealt with."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


class ProgressBar:
    """A bar with rate and time left, and what is done with how many of what; a context manager."""

    def __init__(self, console: Console, total: int, unit: str = "rows", act: str = "importing") -> None:
        columns = (TextColumn(act), BarColumn(), MofNCompleteColumn(), TextColumn(unit), _Rate(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task(act, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advanced(self, progress: Done) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=progress.done)

    def rejected(self, error: LookalikeError, wait: float) -> None:
        """Say above the bar why it stands still."""
        self._bar.console.print(rejection_line(error, wait), style="yellow")


class ProgressLines:
    """A line every few seconds, for logs; a context manager.

    Args:
        console: Where the lines go.
        total: How many there are.
        unit: What is counted, in the plural.
        clock: Monotonic seconds.
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
        self._begun = clock()
        self._last_progress = self._begun
        self._last_rejection = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def advanced(self, progress: Done) -> None:
        """Print a line if the last one is some seconds old."""
        now = self._clock()
        if now - self._last_progress < EVERY_S or not progress.done:
            return
        self._last_progress = now
        rate = progress.done / (now - self._begun)
        left = max(0, self._total - progress.done) / rate  # an export may find more than there were at its start
        far = f"{progress.done:,} of {self._total:,} {self._unit}"
        self._console.print(f"{far}, {rate:.1f}/s, about {duration(left)} left", soft_wrap=True)

    def rejected(self, error: LookalikeError, wait: float) -> None:
        """Print why nothing moves, unless that was said some seconds ago."""
        now = self._clock()
        if now - self._last_rejection >= EVERY_S:
            self._last_rejection = now
            self._console.print(rejection_line(error, wait), soft_wrap=True)


def progress_on(console: Console, total: int, unit: str, act: str) -> ProgressBar | ProgressLines:
    """What suits the console: a bar on a terminal, lines elsewhere."""
    return ProgressBar(console, total, unit, act) if console.is_terminal else ProgressLines(console, total, unit)


def rejection_line(error: LookalikeError, wait: float) -> str:
    """Why nothing moves, in one line."""
    states = {StatusCode.RESOURCE_EXHAUSTED: "busy", StatusCode.UNAVAILABLE: "away"}
    return f"the server is {states.get(error.code, 'slow')} ({' '.join(error.reason.split())}); again in {wait:.1f} s"


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would choose."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
