"""Records the stats of the latest searches of this gallery, for the Server page."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from lookalike_client import ResponseStats

MAX_RECORDS = 500


@dataclass(frozen=True, slots=True)
class StatsRecord:
    """The stats of one search.

    Attributes:
        number: Its sequence number since the gallery started, from 1.
        stats: The server's.
        round_trip_ms: The latency that the gallery measured, in milliseconds.
    """

    number: int
    stats: ResponseStats
    round_trip_ms: float


class StatsHistory:
    """The last MAX_RECORDS records; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: deque[StatsRecord] = deque(maxlen=MAX_RECORDS)
        self._count = 0

    def add(self, stats: ResponseStats, round_trip_ms: float) -> None:
        """Append a record, and drop the oldest one beyond MAX_RECORDS."""
        with self._lock:
            self._count += 1
            self._records.append(StatsRecord(self._count, stats, round_trip_ms))

    def latest(self) -> list[StatsRecord]:
        """Return the records, oldest first."""
        with self._lock:
            return list(self._records)


def stage_times(stats: ResponseStats) -> list[tuple[str, float]]:
    """Return the milliseconds of each stage in the server; they add up to the total."""
    parts = [
        ("decode", stats.decode_us),
        ("queue", stats.queue_us),
        ("inference", stats.inference_us),
        ("search", stats.search_us),
    ]
    rest = max(0, stats.total_us - sum(us for _, us in parts))
    return [(name, us / 1000) for name, us in [*parts, ("rest", rest)]]
