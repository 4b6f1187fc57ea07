"""Measures the recall of the graphs: a sample of the searches is repeated exactly, in the background.

With each of them a search by the vector of some stored row is repeated too.
"""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

from lookalike_server.domain.events import Observer, RecallMeasured
from lookalike_server.domain.search import IndexQuery, IndexResult
from lookalike_server.index.snapshot import Snapshot
from lookalike_server.priority import lower_priority

_MAX_PENDING = 16  # repeats; under a load that is too fast for them, fewer searches are repeated
_NICE = 10  # by how much the thread is nicer than searches: a repeat reads a whole category
_SMOOTHING = 0.05  # weight of the newest repeat in a category's recall, an exponential moving average


class RecallSampler:
    """Repeats a sample of the searches, in a thread of its own."""

    def __init__(self, sample_rate: float, observer: Observer, seed: int | None = None) -> None:
        """Repeat this share of the searches, 0 to 1, and report the recall of each."""
        self._sample_rate = sample_rate
        self._observer = observer
        self._random = random.Random(seed)  # noqa: S311 - a sample, not a secret
        self._thread = ThreadPoolExecutor(1, "recall", lower_priority, (_NICE,))
        self._pending = 0
        self._recalls: dict[str, float] = {}
        self._lock = threading.Lock()

    def recall(self, category: str) -> float | None:
        """Return the recent recall of a category's graphs, 0 to 1; None before the first repeat."""
        return self._recalls.get(category)

    def recalls(self) -> dict[str, float]:
        """Return the recent recall of each category where searches were repeated; in any thread."""
        return dict(self._recalls)

    def offer(self, category: str, query: IndexQuery, found: IndexResult, snapshot: Snapshot) -> None:
        """Maybe repeat a search of this snapshot with this result, later."""
        if found.exact or self._random.random() >= self._sample_rate:
            return
        with self._lock:
            if self._pending == _MAX_PENDING:
                return
            self._pending += 1
        self._thread.submit(self._compare, category, query, found, snapshot)

    def forget(self, category: str) -> None:
        """Drop the recall of a category that no longer exists."""
        self._recalls.pop(category, None)

    def wait_until_idle(self) -> None:
        """Wait for the pending repeats."""
        self._thread.submit(int).result()

    def close(self) -> None:
        """Stop, once a running repeat has ended."""
        self._thread.shutdown(cancel_futures=True)

    def _compare(self, category: str, query: IndexQuery, found: IndexResult, snapshot: Snapshot) -> None:
        try:
            self._record(category, query, found, snapshot)
            # What callers ask need not be what a graph has lost.
            stored = snapshot.stored_query(self._random.random(), query.k)
            if stored is not None:
                (found,) = snapshot.search([stored], exact=False)
                self._record(category, stored, found, snapshot)
        finally:
            with self._lock:
                self._pending -= 1

    def _record(self, category: str, query: IndexQuery, found: IndexResult, snapshot: Snapshot) -> None:
        (exact,) = snapshot.search([query], exact=True)
        value = recall(found, exact)
        before = self._recalls.get(category, value)
        self._recalls[category] = before + _SMOOTHING * (value - before)
        self._observer(RecallMeasured(category, value))


def recall(found: IndexResult, exact: IndexResult) -> float:
    """Return the share of the exact result that was found, 0 to 1; of products at equal distances any one counts."""
    if not exact.hits:
        return 1.0
    farthest = exact.hits[-1].distance
    near = sum(hit.distance <= farthest for hit in found.hits[: len(exact.hits)])
    return near / len(exact.hits)
