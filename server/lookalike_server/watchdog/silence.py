"""For how long an event loop has not beaten, as far as that is its own doing."""

from __future__ import annotations

import time
from collections.abc import Callable

BEAT_SECONDS = 0.05
"""How often an event loop beats."""

SUSPECT_SECONDS = 0.5
"""A silence from which health says NOT_SERVING; the issue's bound is one second after the process stopped."""

HUNG_SECONDS = 1.4
"""A silence from which a process is killed, or exits; the bound is two seconds."""

_BRIEF_SECONDS = 0.2  # a silence of which nobody asks the reason


class Silence:
    """Counts the seconds since an event loop last beat, less those for which its thread waited for a processor."""

    def __init__(
        self,
        last_beat: Callable[[], float],
        waited: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Judge a loop.

        Args:
            last_beat: When it last beat.
            waited: For how many seconds its thread has been ready to run and did not.
            clock: The time in seconds, as beats have it.
        """
        self._last_beat = last_beat
        self._waited = waited
        self._clock = clock
        self._beat = last_beat()
        self._waited_before = 0.0
        self._is_silent = False
        self._seconds = 0.0

    def look(self, step: float) -> float:
        """Return the seconds of silence, `step` of which are those since the last look."""
        beat = self._last_beat()
        if beat != self._beat:
            self._beat = beat
            self._is_silent = False
            self._seconds = min(step, max(0.0, self._clock() - beat))
            return self._seconds
        if not self._is_silent:  # asked now and not with every beat, because most are followed by the next one
            self._is_silent = True
            self._waited_before = self._waited()
        self._seconds += step
        if self._seconds < _BRIEF_SECONDS:
            return self._seconds
        return max(0.0, self._seconds - (self._waited() - self._waited_before))
