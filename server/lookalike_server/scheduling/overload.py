"""Short queues under lasting overload: the longer calls must be rejected, the less of its time a call may wait."""

from __future__ import annotations

LEAST_SHARE = 0.2
"""The least share of a call's time that it may wait under lasting overload; at 1 the deadline alone decides."""

_SHRINK_SECONDS = 0.5  # of overload until that share is reached
_RECOVERY_SECONDS = 1.0  # without a rejection until the whole time counts again


class Overload:
    """How long calls have been rejected for want of one resource."""

    def __init__(self, least_share: float = LEAST_SHARE) -> None:
        """Shrink to this share."""
        self._least_share = least_share
        self._since = self._last = float("-inf")

    def record_rejection(self, now: float) -> None:
        """Note that a call was rejected, at this time in seconds."""
        if now - self._last > _RECOVERY_SECONDS:
            self._since = now
        self._last = now

    def share(self, now: float) -> float:
        """Return which share of its time a call may wait."""
        if now - self._last > _RECOVERY_SECONDS:
            return 1.0
        return max(self._least_share, 1.0 - (now - self._since) / _SHRINK_SECONDS * (1.0 - self._least_share))
