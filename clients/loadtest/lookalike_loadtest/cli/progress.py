"""Shows the progress of a load test: one line that changes on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from lookalike_client.cli.progress import INTERVAL_S
from lookalike_loadtest.plan import Phase
from lookalike_loadtest.stats import Stats
from lookalike_loadtest.summary import milliseconds

_REDRAW_INTERVAL_S = 0.5


class LoadProgress:
    """Shows the stats from time to time; a context manager.

    Args:
        console: Where to show them.
        clock: Monotonic seconds.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        # not refreshed by a thread: a line is redrawn when there is something new
        self._live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None
        self._last = float("-inf")

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, stats: Stats, phase: Phase, elapsed: float, outstanding: int) -> None:
        """Show the progress, unless that was done just before."""
        now = self._clock()
        if now - self._last < (_REDRAW_INTERVAL_S if self._live else INTERVAL_S):
            return
        self._last = now
        text = line(stats, phase, elapsed, outstanding)
        if self._live:
            self._live.update(Text(text), refresh=True)
        else:
            self._console.print(text, soft_wrap=True)


def line(stats: Stats, phase: Phase, elapsed: float, outstanding: int) -> str:
    """Format the progress in one line."""
    load = f"{phase.rate:,.1f}/s" if phase.rate is not None else f"concurrency {phase.concurrency}"
    if elapsed < 0:
        return f"{load}: warming up for {-elapsed:.0f} s more, {outstanding:,} under way"
    parts = [f"{load}: {min(elapsed, phase.seconds):.0f} of {phase.seconds:.0f} s"]
    if elapsed >= 2:
        parts.append(f"{stats.answered_in(int(elapsed) - 1):,}/s answered")
    if stats.answered:
        parts.append(f"p50 {milliseconds(stats.latency.at(50))}, p99 {milliseconds(stats.latency.at(99))}")
    parts.append(f"{stats.failed:,} failed, {outstanding:,} under way")
    return ", ".join(parts)
