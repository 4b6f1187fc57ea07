"""How much of the truth the graphs find: a share of the searches is repeated exactly, beside everything else."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from lookalike_server.domain.events import Observer, RecallMeasured
from lookalike_server.domain.search import IndexResult

_MOST_WAITING = 16  # repeats; where searches come faster than they can be repeated, fewer are
_LEARNING_RATE = 0.05  # weight of the newest repeat in a category's running recall

Repeat = Callable[[], IndexResult]


class RecallSampler:
    """Repeats some searches in a thread of its own."""

    def __init__(self, share: float, observer: Observer, seed: int | None = None) -> None:
        """Repeat this share of the searches that come, 0 to 1, and report each."""
        self._share = share
        self._observer = observer
        self._random = random.Random(seed)  # noqa: S311 - a sample, not a secret
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recall")
        self._waiting = 0
        self._recalls: dict[str, float] = {}
        self._lock = threading.Lock()

    def of(self, category: str) -> float | None:
        """The running recall of a category's graphs, 0 to 1; None before the first repeat."""
        return self._recalls.get(category)

    def offer(self, category: str, found: IndexResult, repeat: Repeat) -> None:
        """Maybe repeat a search that found this, by calling `repeat` for the exact answer."""
        if found.exact or self._random.random() >= self._share:
            return
        with self._lock:
            if self._waiting == _MOST_WAITING:
                return
            self._waiting += 1
        self._thread.submit(self._compare, category, found, repeat)

    def forget(self, category: str) -> None:
        """The category is gone."""
        self._recalls.pop(category, None)

    def settle(self) -> None:
        """Wait for the repeats under way."""
        self._thread.submit(int).result()

    def close(self) -> None:
        """Stop; a repeat under way ends first."""
        self._thread.shutdown(cancel_futures=True)

    def _compare(self, category: str, found: IndexResult, repeat: Repeat) -> None:
        try:
            value = recall(found, repeat())
            before = self._recalls.get(category, value)
            self._recalls[category] = before + _LEARNING_RATE * (value - before)
            self._observer(RecallMeasured(category, value))
        finally:
            with self._lock:
                self._waiting -= 1


def recall(found: IndexResult, exact: IndexResult) -> float:
    """The share of the exact answer that was found, 0 to 1; of products equally far away any will do."""
    if not exact.hits:
        return 1.0
    farthest = exact.hits[-1].distance
    near = sum(hit.distance <= farthest for hit in found.hits[: len(exact.hits)])
    return near / len(exact.hits)
