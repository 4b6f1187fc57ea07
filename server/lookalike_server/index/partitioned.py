"""All categories: a partition each, made when the first row comes and dropped with the last.

The store's writer thread is the only one that calls `apply`; graphs are built one after another in a thread of their
own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from lookalike_server.domain import Hit, Hits, IndexChange, IndexKind, IndexRow, Question
from lookalike_server.filters import Condition
from lookalike_server.index.partition import Partition, PartitionSettings
from lookalike_server.index.recall import RecallSampler
from lookalike_server.protocols import Observer

_LOAD_ROWS = 1024  # rows handed to a partition at once while loading


class PartitionedIndex:
    """The embedded `VectorIndex`."""

    def __init__(self, settings: PartitionSettings, observer: Observer, recall_share: float = 0.0) -> None:
        self._settings = settings
        self._observer = observer
        self._recall = RecallSampler(recall_share, observer)
        self._partitions: dict[str, Partition] = {}
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="index-builder")
        self._builds: dict[str, Future[None]] = {}

    def load(self, rows: Iterable[tuple[str, IndexRow]]) -> int:
        """Take in every row of the store and return their number; until graphs are built, searches compare all rows."""
        count = 0
        waiting: list[tuple[str, IndexRow]] = []
        for row in rows:
            waiting.append(row)
            count += 1
            if len(waiting) == _LOAD_ROWS:
                self._take_in(IndexChange((), waiting))
                waiting = []
        self._take_in(IndexChange((), waiting))
        for category in list(self._partitions):
            self._build_if_wanted(category)
        return count

    def apply(self, change: IndexChange) -> None:
        """Take in one committed change (see `VectorIndex`)."""
        for category in self._take_in(change):
            self._build_if_wanted(category)

    def kind(self, category: str) -> IndexKind:
        """How this category is searched at present (see `VectorIndex`)."""
        partition = self._partitions.get(category)
        return partition.kind if partition else IndexKind.FLAT

    def holds(self, category: str) -> bool:
        """Whether any product is in this category (see `VectorIndex`)."""
        return category in self._partitions

    def search(
        self,
        questions: Sequence[Question],
        *,
        category: str | None,
        exact: bool,
        conditions: Sequence[Condition] = (),
    ) -> list[Hits]:
        """Answer questions about one category, or all, together (see `VectorIndex`)."""
        if category is not None:
            partition = self._partitions.get(category)
            if partition is None:
                return [Hits((), exact=True)] * len(questions)
            answers = partition.search(questions, exact=exact, conditions=conditions)
            for question, answer in zip(questions, answers, strict=True):
                self._recall.offer(category, answer, partial(_exactly, partition, question, conditions))
            return answers
        found = [
            partition.search(questions, exact=exact, conditions=conditions)
            for partition in list(self._partitions.values())
        ]
        return [_merged([hits[i] for hits in found], each.k) for i, each in enumerate(questions)]

    def recall(self, category: str) -> float | None:
        """How much of the exact answers the category's graphs find of late (see `VectorIndex`)."""
        return self._recall.of(category)

    def settle(self) -> None:
        """Wait for the graphs being built and the searches being repeated."""
        for build in list(self._builds.values()):
            build.result()
        self._recall.settle()

    def close(self) -> None:
        """Stop building; a build under way ends first."""
        self._builder.shutdown(cancel_futures=True)
        self._recall.close()

    def _take_in(self, change: IndexChange) -> set[str]:
        removed: dict[str, list[int]] = {}
        added: dict[str, list[IndexRow]] = {}
        for category, label in change.removed:
            removed.setdefault(category, []).append(label)
        for category, row in change.added:
            added.setdefault(category, []).append(row)
        described: dict[str, list[tuple[int, Mapping[str, str]]]] = {}
        for category, label, attributes in change.described:
            described.setdefault(category, []).append((label, attributes))
        # Additions first, so that a product that moves is never in no category.
        touched = sorted(removed.keys() | added.keys() | described.keys(), key=lambda category: category not in added)
        for category in touched:
            partition = self._partitions.get(category)
            if partition is None:
                partition = self._new_partition(category)
            partition.change(removed.get(category, ()), added.get(category, ()), described.get(category, ()))
            if len(partition) == 0:
                del self._partitions[category]
                self._recall.forget(category)
        return added.keys() | removed.keys()

    def _new_partition(self, category: str) -> Partition:
        partition = Partition(self._settings, lambda: self._observer.search_fell_back(category))
        self._partitions[category] = partition
        return partition

    def _build_if_wanted(self, category: str) -> None:
        partition = self._partitions.get(category)
        build = self._builds.get(category)
        if partition is None:
            self._builds.pop(category, None)
        elif partition.wants_care and (build is None or build.done()):
            self._builds[category] = self._builder.submit(_care_while_wanted, partition)


def _exactly(partition: Partition, question: Question, conditions: Sequence[Condition]) -> Hits:
    (hits,) = partition.search([question], exact=True, conditions=conditions)
    return hits


def _care_while_wanted(partition: Partition) -> None:
    # Rows may have come or died while the last graph was built.
    while partition.wants_care:
        partition.care()


def _merged(found: Sequence[Hits], k: int) -> Hits:
    """The k nearest of several categories' hits; exact where all of them are."""
    # A product on its way from one category to another can be in both: its best row counts, once.
    best: dict[str, Hit] = {}
    for hit in sorted((hit for hits in found for hit in hits.hits), key=lambda hit: (hit.distance, hit.product_id)):
        best.setdefault(hit.product_id, hit)
    return Hits(list(best.values())[:k], exact=all(hits.exact for hits in found))
