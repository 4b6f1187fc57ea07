"""Decides whether a run of the model hangs."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from lookalike_server.inference.run_watch import ModelRun, RunWatch
from lookalike_server.watchdog.starvation import ModelThreads

DOUBT_SECONDS = 0.4
"""For how long an overdue run's threads are observed before it is said to hang."""

LAST_SECONDS = 1.0
"""In which a run that hangs may still end; health says NOT_SERVING meanwhile."""

_STARVED_SHARE = 0.25  # of the time without a processor, from which a run is late because the machine is busy
_MAX_POSTPONEMENTS = 25  # of DOUBT_SECONDS each; a run that hangs by computing forever on a busy machine is found too


class RunHangs:
    """Judges runs by the time of whoever looks at them."""

    def __init__(
        self,
        runs: RunWatch,
        on_hang: Callable[[bool], object],
        threads: Callable[[], ModelThreads] = ModelThreads,
    ) -> None:
        """Judge these runs.

        Args:
            runs: Those under way.
            on_hang: Called with True when one hangs, and with False when it has ended after all.
            threads: Observes the threads that run the model from now on.
        """
        self._runs = runs
        self._on_hang = on_hang
        self._threads = threads
        self._time = 0.0
        self._begun: dict[ModelRun, float] = {}
        self._since = 0.0
        self._observed: ModelThreads | None = None
        self._postponed = 0
        self.is_hung = False

    def look(self, step: float) -> bool:
        """Look at the runs, `step` seconds after the last time; return whether to give this process up."""
        self._time += step
        self._begun = {run: self._begun.get(run, self._time) for run in self._runs.under_way()}
        overdue = next((run for run, begun in self._begun.items() if self._time - begun > run.limit), None)
        if overdue is None:
            self._forget()
        elif self.is_hung:
            return self._time - self._since > LAST_SECONDS
        elif self._observed is None:
            self._observe()
        elif self._time - self._since > DOUBT_SECONDS:
            self._decide(overdue, self._observed)
        return False

    def _observe(self) -> None:
        self._since, self._observed = self._time, self._threads()

    def _decide(self, run: ModelRun, observed: ModelThreads) -> None:
        if self._postponed < _MAX_POSTPONEMENTS and observed.starved_share() > _STARVED_SHARE:
            self._postponed += 1
            self._observe()
            return
        self.is_hung, self._since = True, self._time
        self._on_hang(True)
        structlog.get_logger().error(
            "model_run_hangs",
            images=run.images,
            seconds=round(self._time - self._begun[run], 1),
            limit_seconds=round(run.limit, 1),
        )

    def _forget(self) -> None:
        """Begin again: whatever was overdue has ended."""
        if self.is_hung:
            self._on_hang(False)
            structlog.get_logger().warning("model_run_ended_late")
        self.is_hung, self._observed, self._postponed = False, None, 0
