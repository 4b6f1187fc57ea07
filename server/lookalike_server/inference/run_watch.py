"""The runs of the model that have begun and not ended, and whether the GPU is lost, for whoever watches them."""

from __future__ import annotations

from dataclasses import dataclass

MIN_LIMIT_SECONDS = 1.0
LIMIT_FACTOR = 10.0
"""A run is overdue after ten times what is predicted, and never within a second: no noise explains more.

Unless the settings give it a fixed time.
"""


@dataclass(eq=False, frozen=True, slots=True)
class ModelRun:
    """A run under way.

    Attributes:
        limit: The seconds after which it is overdue.
        images: How many images it has.
    """

    limit: float
    images: int


class RunWatch:
    """Any thread may begin and end runs, and look at those under way.

    Attributes:
        gpu_error: The error after which this process cannot use its GPU any more; None while it can.
    """

    def __init__(self, limit: float = 0.0) -> None:
        """Give each run this many seconds; 0 for `LIMIT_FACTOR` times the prediction."""
        self.gpu_error: Exception | None = None
        self._limit = limit
        self._runs: set[ModelRun] = set()

    def begin(self, predicted: float, images: int) -> ModelRun:
        """Begin a run that is predicted to take this many seconds."""
        run = ModelRun(self._limit or max(MIN_LIMIT_SECONDS, LIMIT_FACTOR * predicted), images)
        self._runs.add(run)
        return run

    def end(self, run: ModelRun) -> None:
        """End a run, whether it succeeded or not."""
        self._runs.discard(run)

    def under_way(self) -> tuple[ModelRun, ...]:
        """Return the runs that have not ended."""
        return tuple(self._runs)
