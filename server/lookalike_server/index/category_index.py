"""All categories: a partition each, loaded when it is asked for or its turn comes, and dropped with its last row.

The store's writer thread is the only one that calls `apply`. One thread of lower priority loads what nobody asked for
yet, and builds and keeps graphs, one piece after another.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from lookalike_server.domain.catalog import IndexChange, IndexKind
from lookalike_server.domain.events import CategoryLoaded, GraphBuilt, IndexMaintenanceFailed, Observer, SearchFellBack
from lookalike_server.domain.filters import Condition
from lookalike_server.domain.protocols import RowSource
from lookalike_server.domain.search import Hit, IndexQuery, IndexResult
from lookalike_server.index.graph_files import GraphFiles
from lookalike_server.index.lazy_loading import PartitionChange, Turns, Unloaded, catch_up
from lookalike_server.index.partition import Partition
from lookalike_server.index.recall import RecallSampler
from lookalike_server.index.segment import PartitionSettings
from lookalike_server.index.snapshot import Snapshot

_NICE = 10  # of the thread that builds; a search should not wait for it


class CategoryIndex:
    """The embedded `VectorIndex`."""

    def __init__(self, settings: PartitionSettings, observer: Observer, recall_sample_rate: float = 0.0) -> None:
        self._settings = settings
        self._observer = observer
        self._recall = RecallSampler(recall_sample_rate, observer)
        self._lock = threading.Lock()  # over what categories there are, and each change as a whole
        self._partitions: dict[str, Partition] = {}
        self._unloaded: dict[str, Unloaded] = {}
        self._source: RowSource | None = None
        self._files: GraphFiles | None = None
        self._builder = ThreadPoolExecutor(1, "index-builder", initializer=_yield_to_others)
        self._cared_for: set[str] = set()
        self._turns = Turns()

    def open(self, source: RowSource, folder: Path) -> int:
        """Take over what a store holds, and return its number of rows; before any change is applied.

        Searches are right at once: a category is read when one asks for it. The rest follows in the background.

        Args:
            source: The store.
            folder: Where graphs are kept; made when missing.
        """
        counts = source.row_counts()
        self._source = source
        self._files = GraphFiles(folder, source, self._settings, self._observer)
        self._unloaded = {category: Unloaded(count) for category, count in counts.items()}
        for category in counts:
            self._builder.submit(self._load, category)
        for category in self._files.named() - counts.keys():
            self._maintain_if_needed(category)
        return sum(counts.values())

    def apply(self, change: IndexChange) -> None:
        """Take in one committed change (see `VectorIndex`)."""
        changes: dict[str, PartitionChange] = {}
        for category, label in change.removed:
            changes.setdefault(category, PartitionChange()).removed.append(label)
        for category, row in change.added:
            changes.setdefault(category, PartitionChange()).added.append(row)
        for category, label, attributes in change.described:
            changes.setdefault(category, PartitionChange()).described.append((label, attributes))
        with self._lock:
            for category, part in changes.items():
                self._take_in(category, part)
        for category in changes:
            self._maintain_if_needed(category)

    def kind(self, category: str) -> IndexKind:
        """How this category is searched at present (see `VectorIndex`)."""
        partition = self._partitions.get(category)
        return partition.kind if partition else IndexKind.FLAT

    def holds(self, category: str) -> bool:
        """Whether any product is in this category (see `VectorIndex`)."""
        unloaded = self._unloaded.get(category)
        return category in self._partitions or (unloaded is not None and unloaded.count > 0)

    def is_cheap(self, category: str) -> bool:
        """Whether a search takes about a millisecond (see `VectorIndex`)."""
        partition = self._partitions.get(category)
        return partition is not None and partition.is_cheap

    def search(
        self,
        questions: Sequence[IndexQuery],
        *,
        category: str | None,
        exact: bool,
        conditions: Sequence[Condition] = (),
    ) -> list[IndexResult]:
        """SearchResult queries about one category, or all, together (see `VectorIndex`)."""
        if category is None:
            found = [snapshot.search(questions, exact=exact) for snapshot in self._snapshots(conditions)]
            return [_merged([hits[i] for hits in found], each.k) for i, each in enumerate(questions)]
        partition = self._partition(category)
        if partition is None:
            return [IndexResult((), exact=True)] * len(questions)
        snapshot = partition.snapshot(conditions)
        answers = snapshot.search(questions, exact=exact)
        for question, answer in zip(questions, answers, strict=True):
            self._recall.offer(category, answer, partial(_exactly, snapshot, question))
        return answers

    def recall(self, category: str) -> float | None:
        """How much of the exact answers the category's graphs find of late (see `VectorIndex`)."""
        return self._recall.of(category)

    def settle(self) -> None:
        """Wait for what is being loaded, built, kept and repeated."""
        self._builder.submit(int).result()
        while self._cared_for:
            self._builder.submit(int).result()
        self._recall.settle()

    def close(self) -> None:
        """Stop caring; a piece under way ends first."""
        self._builder.shutdown(cancel_futures=True)
        self._recall.close()

    def _take_in(self, category: str, change: PartitionChange) -> None:
        unloaded = self._unloaded.get(category)
        if unloaded is not None:
            unloaded.take_in(change)
            return
        partition = self._partitions.get(category)
        if partition is None:
            partition = self._partitions[category] = Partition(self._settings, self._fell_back(category))
        partition.change(change.removed, change.added, change.described)
        if len(partition) == 0:
            del self._partitions[category]
            self._recall.forget(category)

    def _partition(self, category: str, *, urgent: bool = True) -> Partition | None:
        """A category, read now if it was not yet, before others if it is urgent; None where nothing is in it."""
        unloaded = self._unloaded.get(category)
        if unloaded is None:
            return self._partitions.get(category)
        with unloaded.reading:
            # Somebody else may have read it meanwhile.
            if self._unloaded.get(category) is unloaded:
                self._read(category, unloaded, urgent=urgent)
        self._maintain_if_needed(category)
        return self._partitions.get(category)

    def _load(self, category: str) -> None:
        try:
            self._partition(category, urgent=False)
        except Exception as error:  # noqa: BLE001 - whoever asks for the category will hear of it
            self._observer(IndexMaintenanceFailed(category, error))

    def _read(self, category: str, unloaded: Unloaded, *, urgent: bool) -> None:
        assert self._source is not None  # noqa: S101 - only `open` makes them unloaded
        assert self._files is not None  # noqa: S101 - the same
        with self._lock:
            # From here on changes are noted; what was committed before, the reading will see.
            unloaded.missed = []
        graphs = self._files.load(category)
        rows = self._turns.taken(self._source.rows(category), first=urgent)
        partition = Partition.loaded(self._settings, self._fell_back(category), rows, unloaded.count, graphs)
        # What the reading saw is among what was noted once it is applied: the other categories know of it then too.
        self._source.wait_until_applied()
        with self._lock:
            catch_up(partition, unloaded.missed)
            if len(partition):
                self._partitions[category] = partition
            del self._unloaded[category]
            left = len(self._unloaded)
        self._observer(CategoryLoaded(category, len(partition), left))

    def _snapshots(self, conditions: Sequence[Condition]) -> list[Snapshot]:
        """Every category as it was at one and the same moment, so that a product on its way is in one of them."""
        for category in list(self._unloaded):
            self._partition(category)
        with self._lock:
            return [partition.snapshot(conditions) for partition in self._partitions.values()]

    def _maintain_if_needed(self, category: str) -> None:
        with self._lock:
            partition = self._partitions.get(category)
            wanted = partition.needs_maintenance if partition is not None else self._has_files_of_none(category)
            if not wanted or category in self._cared_for:
                return
            self._cared_for.add(category)
        try:
            self._builder.submit(self._maintain, category)
        except RuntimeError:
            self._cared_for.discard(category)  # closed

    def _maintain(self, category: str) -> None:
        """Do what a category wants, and keep what came of it; where that fails, searches go on with what there is."""
        try:
            partition = self._partitions.get(category)
            while partition is not None and partition.needs_maintenance:
                if partition.maintain():
                    self._observer(GraphBuilt(category, len(partition)))
            if self._files is not None:
                self._files.keep(category, partition.graphs() if partition else [])
        except Exception as error:  # noqa: BLE001 - the thread must outlive it
            self._observer(IndexMaintenanceFailed(category, error))
            self._cared_for.discard(category)
            return
        self._cared_for.discard(category)
        _give_back_memory()
        # What came in the moment before that line found the category cared for.
        self._maintain_if_needed(category)

    def _has_files_of_none(self, category: str) -> bool:
        return self._files is not None and category not in self._unloaded and category in self._files.named()

    def _fell_back(self, category: str) -> partial[None]:
        return partial(self._observer, SearchFellBack(category))


def _exactly(snapshot: Snapshot, question: IndexQuery) -> IndexResult:
    (hits,) = snapshot.search([question], exact=True)
    return hits


def _merged(found: Sequence[IndexResult], k: int) -> IndexResult:
    """The k nearest of several categories' hits; exact where all of them are."""
    hits: list[Hit] = [hit for each in found for hit in each.hits]
    nearest = sorted(hits, key=lambda hit: (hit.distance, hit.product_id))[:k]
    return IndexResult(nearest, exact=all(each.exact for each in found))


def _give_back_memory() -> None:
    # Building takes several times what it leaves, and glibc keeps what was freed for next time: a tenth of a catalog.
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _yield_to_others() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
