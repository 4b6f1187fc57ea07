"""Keeps the stats of the latest answers that this gallery got, for the page of the server."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from lookalike_client import ResponseStats

KEPT = 500


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer.

    Attributes:
        number: Counted from 1, since the gallery started.
        stats: What it cost in the server.
        round_trip_ms: From the query to the answer, as the gallery saw it, in milliseconds.
    """

    number: int
    stats: ResponseStats
    round_trip_ms: float


class ResponseStatsLog:
    """The last KEPT stats; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[Answered] = deque(maxlen=KEPT)
        self._count = 0

    def add(self, stats: ResponseStats, round_trip_ms: float) -> None:
        """Keep one more, and forget the oldest where there are too many."""
        with self._lock:
            self._count += 1
            self._kept.append(Answered(self._count, stats, round_trip_ms))

    def latest(self) -> list[Answered]:
        """Those that are kept, oldest first."""
        with self._lock:
            return list(self._kept)


def stages(stats: ResponseStats) -> list[tuple[str, float]]:
    """Where one answer's time went in the server, in milliseconds; together they are its total."""
    parts = [
        ("decode", stats.decode_us),
        ("queue", stats.queue_us),
        ("inference", stats.inference_us),
        ("search", stats.search_us),
    ]
    rest = max(0, stats.total_us - sum(spent for _, spent in parts))
    return [(name, spent / 1000) for name, spent in [*parts, ("rest", rest)]]
