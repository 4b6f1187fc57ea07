"""What a batch is expected to take, and how late images have really been: admission predicts with it."""

from __future__ import annotations

import numpy as np

from lookalike_server.inference.autotune import Plan

_LATE_RATE, _EARLY_RATE = 0.05, 0.01  # steps towards later and earlier finishes: about the 5/6 quantile
_WORTH_LEARNING = 0.02  # seconds; below, handing images from thread to thread is most of what is measured
_MOST_LATENESS = 3.0
_LEARNING_RATE = 0.2  # weight of the newest batch in how far costs have drifted


class LatencyModel:
    """What a batch is expected to take: the batch_profiles's times, corrected by how the batches since have run."""

    def __init__(self, plan: Plan) -> None:
        sizes = [profile.batch_size for profile in plan.profiles]
        seconds = [profile.seconds for profile in plan.profiles]
        # Every size at once: asked for on every call and every batch.
        self._seconds = np.interp(range(plan.preferred_batch_size + 1), sizes, seconds).tolist()
        self._image = self._seconds[-1] / (plan.preferred_batch_size * plan.max_concurrent_batches)
        self._drift = 1.0
        self._lateness = 1.0

    def batch(self, size: int) -> float:
        """Seconds that a run of so many images is expected to take."""
        return self._drift * self._seconds[size]

    def queue(self, images: int) -> float:
        """Seconds in which so many images are expected to leave the queue."""
        return self._drift * images * self._image

    def finish(self, seconds: float) -> float:
        """Seconds after which an image is embedded that should take so many, as predictions have been kept lately."""
        return seconds * self._lateness

    def kept(self, predicted: float, actual: float) -> None:
        """Take in when an image that was predicted to take so many seconds was embedded.

        Late ones weigh more than early ones, so that what is admitted is in time rather than on average.
        """
        if predicted < _WORTH_LEARNING:
            return
        error = actual / predicted - self._lateness
        step = (_LATE_RATE if error > 0 else _EARLY_RATE) * error
        self._lateness = min(_MOST_LATENESS, max(1.0, self._lateness + step))

    def learn(self, size: int, seconds: float) -> None:
        """Take in what a batch really took."""
        self._drift += _LEARNING_RATE * (seconds / self._seconds[size] - self._drift)
