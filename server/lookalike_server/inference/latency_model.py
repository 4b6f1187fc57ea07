"""Predictions for admission: how long a batch takes, and how much later than predicted images have been lately."""

from __future__ import annotations

import numpy as np

from lookalike_server.inference.plan import Plan

_LATE_RATE, _EARLY_RATE = 0.05, 0.01  # steps towards later and earlier completions: about the 5/6 quantile
_MIN_SECONDS = 0.02  # of a prediction worth learning from; below, hand-overs between threads dominate the measurement
_MAX_LATENESS = 3.0
_NEARLY = 0.93  # of the best throughput
_BATCH_RATE = 0.2  # weight of the newest batch in how far batch times have drifted


class Lateness:
    """How much later than predicted completions have been lately, as a factor of at least 1.

    Late ones weigh more than early ones, so that what is admitted is in time rather than on average.
    """

    def __init__(self) -> None:
        self._factor = 1.0

    def correct(self, predicted: float) -> float:
        """Correct a predicted time, in seconds."""
        return predicted * self._factor

    def record(self, predicted: float, actual: float) -> None:
        """Learn from a predicted and an actual time, in seconds."""
        if predicted < _MIN_SECONDS:
            return
        error = actual / predicted - self._factor
        step = (_LATE_RATE if error > 0 else _EARLY_RATE) * error
        self._factor = min(_MAX_LATENESS, max(1.0, self._factor + step))


class LatencyModel:
    """The batch times measured at start-up, corrected by the batches that have run since. All times are seconds.

    Attributes:
        least_batch_size: The smallest batches that reach nearly the throughput of the best ones.
    """

    def __init__(self, plan: Plan) -> None:
        sizes = [profile.batch_size for profile in plan.profiles]
        seconds = [profile.seconds for profile in plan.profiles]
        # A table of every size, because each call and each batch looks one up.
        self._seconds = np.interp(range(plan.preferred_batch_size + 1), sizes, seconds).tolist()
        self._image = self._seconds[-1] / (plan.preferred_batch_size * plan.max_concurrent_batches)
        best = max(size / needed for size, needed in zip(sizes, seconds, strict=True))
        self.least_batch_size = next(
            size for size, needed in zip(sizes, seconds, strict=True) if size / needed >= _NEARLY * best
        )
        self._drift = 1.0
        self._lateness = Lateness()

    def batch_seconds(self, size: int) -> float:
        """Predict the run time of a batch of this size."""
        return self._drift * self._seconds[size]

    def queue_seconds(self, images: float) -> float:
        """Predict the time in which this many images leave the queue."""
        return self._drift * images * self._image

    def completion_seconds(self, predicted: float) -> float:
        """Correct a predicted time from arrival to embedding by how late images have been lately."""
        return self._lateness.correct(predicted)

    def record_completion(self, predicted: float, actual: float) -> None:
        """Learn from one image's predicted and actual time from arrival to embedding."""
        self._lateness.record(predicted, actual)

    def record_batch(self, size: int, seconds: float) -> None:
        """Learn from one batch's run time."""
        self._drift += _BATCH_RATE * (seconds / self._seconds[size] - self._drift)
