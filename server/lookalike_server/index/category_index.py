"""All categories: the small ones together, each other one a partition; loaded when searched, or in the background.

The store calls `apply`, one call at a time. `Maintenance` has the thread that loads categories in the background.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from lookalike_server.domain.catalog import IndexChange, IndexKind, IndexRow
from lookalike_server.domain.events import (
    CategoriesLoaded,
    DeviceSearchFailed,
    IndexMaintenanceFailed,
    Observer,
    RowFileFailed,
    SearchFellBack,
)
from lookalike_server.domain.filters import Condition
from lookalike_server.domain.protocols import RowSource
from lookalike_server.domain.search import Hit, IndexQuery, IndexResult
from lookalike_server.index.device import DeviceSearchError
from lookalike_server.index.graph_files import GraphFiles
from lookalike_server.index.lazy_loading import PartitionChange, ReadPriority, UnloadedCategory, catch_up
from lookalike_server.index.maintenance import IndexFiles, Maintenance
from lookalike_server.index.partition import Partition
from lookalike_server.index.recall import RecallSampler
from lookalike_server.index.row_blocks import RowBlocks
from lookalike_server.index.row_counts import RowCounts
from lookalike_server.index.row_files import RowFiles
from lookalike_server.index.segment import PartitionSettings
from lookalike_server.index.small_categories import SmallCategories
from lookalike_server.index.small_loading import SmallCategoryLoader
from lookalike_server.index.snapshot import Snapshot
from lookalike_server.index.trusted_files import TrustedFiles


class CategoryIndex:
    """The `VectorIndex` in this process."""

    def __init__(
        self, settings: PartitionSettings, observer: Observer, recall_sample_rate: float = 0.0, threads: int = 1
    ) -> None:
        """Start empty; see `open`.

        Args:
            settings: How categories are searched.
            observer: Receives what happens in the background.
            recall_sample_rate: The share of searches by graph that are repeated exactly, 0 to 1.
            threads: The most threads that build a graph, at times without searches.
        """
        self._settings = settings
        self._observer = observer
        self._recall = RecallSampler(recall_sample_rate, observer)
        self._lock = threading.Lock()  # guards the set of categories, and each change as a whole
        self._small = SmallCategories(settings)
        self._partitions: dict[str, Partition] = {}
        self._unloaded: dict[str, UnloadedCategory] = {}
        self._source: RowSource | None = None
        self._maintenance = Maintenance(self._partitions, self._lock, observer, threads)
        self._maintains_small = False
        self._excluded: set[int] = set()  # labels of rows that are in the store and not here
        self._read_priority = ReadPriority()
        self._unloaded_small = SmallCategoryLoader(settings.dim, self._lock, self._read_priority, self._install)

    def open(self, source: RowSource, folder: Path) -> int:
        """Take over the contents of a store, before any change is applied, and return its number of rows.

        Searches are correct at once: they load the categories that they need. The others load in the background.

        Args:
            source: The store.
            folder: The folder of the graph files and of the rows; created if missing.
        """
        counts = source.row_counts()
        self._source = source
        self._settings = replace(self._settings, memory=RowBlocks(folder, self._on_row_file_failure))
        self._small = SmallCategories(self._settings)
        files = TrustedFiles(folder, source, self._observer)
        self._maintenance.files = IndexFiles(
            files,
            GraphFiles(files, self._settings, self._observer),
            RowFiles(files, self._settings.dim, self._settings.min_row_file_bytes, self._observer),
        )
        with_files = files.categories()
        small = {
            category: count
            for category, count in counts.items()
            if count <= self._small.max_rows and category not in with_files
        }
        self._unloaded = {
            category: UnloadedCategory(count) for category, count in counts.items() if category not in small
        }
        self._unloaded_small.open(source, small)
        for category in list(self._unloaded):
            self._maintenance.submit(self._load, category)
        self._maintain_small_if_needed()
        for category in with_files - counts.keys():
            self._maintenance.check(category)
        return sum(counts.values())

    def apply(self, change: IndexChange) -> None:
        """Apply one committed change (see `VectorIndex`)."""
        self._maintenance.pacing.record_writes(len(change.added))
        changes: dict[str, PartitionChange] = {}
        for category, label in change.removed:
            changes.setdefault(category, PartitionChange()).removed.append(label)
        for category, row in change.added:
            changes.setdefault(category, PartitionChange()).added.append(row)
        for category, label, attributes in change.updated:
            changes.setdefault(category, PartitionChange()).updated.append((label, attributes))
        with self._lock:
            for category, part in changes.items():
                self._apply(category, self._without_excluded(part) if self._excluded else part)
        for category in changes.keys() - self._unloaded.keys():
            self._maintenance.check(category)
        self._maintain_small_if_needed()

    def wait_for_searches(self) -> None:
        """Wait until no search runs, though not for long: for other work in the background.

        Raises:
            MaintenanceStopped: The index is closing.
        """
        self._maintenance.pacing.next_piece()

    def exclude(self, category: str, label: int) -> None:
        """Leave out a row whose stored vector is damaged, until its product is written again."""
        if category in self._unloaded_small:
            self._report_loaded(self._unloaded_small.load([category], urgent=False))
        self._partition(category, urgent=False)
        with self._lock:
            partition = self._partitions.get(category)
            if partition is not None:
                found = label in partition
            else:
                found = any(row.label == label for row in self._small.rows(category))
            if found:
                self._apply(category, PartitionChange(removed=[label]))
                self._excluded.add(label)
        self._maintenance.check(category)

    @property
    def partitions(self) -> Mapping[str, Partition]:
        """The categories in memory that are not small."""
        return MappingProxyType(self._partitions)

    @property
    def small_categories(self) -> SmallCategories:
        """The small categories that are in memory."""
        return self._small

    def kind(self, category: str) -> IndexKind:
        """How this category is searched at present (see `VectorIndex`)."""
        partition = self._partitions.get(category)
        return partition.kind if partition else IndexKind.FLAT

    def holds(self, category: str) -> bool:
        """Whether any product is in this category (see `VectorIndex`)."""
        # In the order in which a category passes through these.
        if self._unloaded_small.count(category):
            return True
        unloaded = self._unloaded.get(category)
        return (unloaded is not None and unloaded.count > 0) or category in self._small or category in self._partitions

    def is_cheap(self, category: str) -> bool:
        """Whether a search takes about a millisecond (see `VectorIndex`)."""
        partition = self._partitions.get(category)
        return partition.is_cheap if partition is not None else category in self._small

    def search(
        self,
        queries: Sequence[IndexQuery],
        *,
        category: str | None,
        exact: bool,
        conditions: Sequence[Condition] = (),
    ) -> list[IndexResult]:
        """Search one category, or all, for several queries at once (see `VectorIndex`)."""
        with self._maintenance.pacing:
            return self._search(queries, category, conditions, exact=exact)

    def _search(
        self, queries: Sequence[IndexQuery], category: str | None, conditions: Sequence[Condition], *, exact: bool
    ) -> list[IndexResult]:
        if category is None:
            by_category = [snapshot.search(queries, exact=exact) for snapshot in self._snapshots(conditions)]
            return [_merge([results[i] for results in by_category], each.k) for i, each in enumerate(queries)]
        snapshot = self._snapshot(category, conditions)
        if snapshot is None:
            return [IndexResult((), exact=True)] * len(queries)
        results = snapshot.search(queries, exact=exact)
        for query, result in zip(queries, results, strict=True):
            self._recall.offer(category, query, result, snapshot)
        return results

    def recall(self, category: str) -> float | None:
        """Return the recent recall of the category's graphs (see `VectorIndex`)."""
        return self._recall.recall(category)

    def recalls(self) -> dict[str, float]:
        """Return the recent recall of each category whose searches were repeated; in any thread."""
        return self._recall.recalls()

    def row_counts(self, most: int) -> Iterator[tuple[str | None, RowCounts]]:
        """Yield categories with their rows, at least the largest `most`, and under None the rows of the others.

        In any thread, and also what is not loaded. What changes its place meanwhile may come twice, or not at all.
        """
        for category, partition in list(self._partitions.items()):
            yield category, partition.counts
        for category, unloaded in list(self._unloaded.items()):
            yield category, RowCounts(unloaded.count)
        for largest, others in (self._unloaded_small.largest(most), self._small.largest(most)):
            yield from largest.items()
            yield None, others

    def backlog_seconds(self, category: str) -> float:
        """Predict how long writes to a category should wait for its graphs (see `VectorIndex`)."""
        return self._maintenance.backlog_seconds(category)

    def wait_until_idle(self) -> None:
        """Wait for all background work: loading, building, saving, and measuring recall."""
        self._maintenance.wait_until_idle()
        while self._maintains_small:
            self._maintenance.wait_until_idle()
        self._recall.wait_until_idle()

    def close(self) -> None:
        """Stop the background work, once a running piece of it has ended."""
        self._maintenance.close()
        self._recall.close()

    def _without_excluded(self, change: PartitionChange) -> PartitionChange:
        updated = [(label, attributes) for label, attributes in change.updated if label not in self._excluded]
        removed = [label for label in change.removed if label not in self._excluded]
        self._excluded.difference_update(change.removed)
        return PartitionChange(removed, change.added, updated)

    def _apply(self, category: str, change: PartitionChange) -> None:
        if category in self._unloaded_small:
            self._unloaded_small.apply(category, change)
            count = self._unloaded_small.count(category)
            if count > self._small.max_rows:
                self._unloaded[category] = UnloadedCategory(count)
                self._unloaded_small.forget(category)
                self._maintenance.submit(self._load, category)
            return
        unloaded = self._unloaded.get(category)
        if unloaded is not None:
            unloaded.apply(change)
            return
        partition = self._partitions.get(category)
        if partition is not None:
            partition.change(change.removed, change.added, change.updated)
            if len(partition) == 0:
                del self._partitions[category]
                self._recall.forget(category)
        elif self._small.fits(category, change):
            self._small.change(category, change)
        else:
            partition = Partition(self._settings, self._on_fallback(category), self._on_device_failure(category))
            partition.change((), self._small.rows(category))
            partition.change(change.removed, change.added, change.updated)
            # In this order, so that a search finds the category in one of them.
            self._partitions[category] = partition
            self._small.drop(category)

    def _install(self, category: str, rows: Sequence[IndexRow]) -> None:
        self._small.change(category, PartitionChange(added=list(rows)))

    def _snapshot(self, category: str, conditions: Sequence[Condition]) -> Snapshot | None:
        if category in self._unloaded_small:
            self._report_loaded(self._unloaded_small.load([category], urgent=True))
        partition = self._partition(category)
        if partition is None:
            snapshot = self._small.snapshot(category, conditions)
            if snapshot is not None:
                return snapshot
            partition = self._partitions.get(category)  # it has grown meanwhile
        if partition is None:
            return None
        if partition.can_catch_up and not self._maintenance.is_busy(category):
            self._maintenance.check(category)
        return partition.snapshot(conditions)

    def _partition(self, category: str, *, urgent: bool = True) -> Partition | None:
        """Return the partition of a category, loaded now if it was not yet; None if the category is empty."""
        unloaded = self._unloaded.get(category)
        if unloaded is None:
            return self._partitions.get(category)
        with unloaded.reading:
            # Another thread may have read it meanwhile.
            if self._unloaded.get(category) is unloaded:
                self._read(category, unloaded, urgent=urgent)
        self._maintenance.check(category)
        return self._partitions.get(category)

    def _load(self, category: str) -> None:
        try:
            self._partition(category, urgent=False)
            self._maintenance.attach(category)
        except Exception as error:  # noqa: BLE001 - a search of the category will raise it
            self._observer(IndexMaintenanceFailed(category, error))

    def _read(self, category: str, unloaded: UnloadedCategory, *, urgent: bool) -> None:
        assert self._source is not None  # noqa: S101 - only `open` makes categories unloaded
        with self._lock:
            # Changes are recorded from here on; earlier ones are in what will be read.
            unloaded.missed = []
        source = self._source
        partition = Partition.load(
            self._settings,
            self._on_fallback(category),
            self._on_device_failure(category),
            source.labels(category),
            self._maintenance.files.rows.load(category) if self._maintenance.files is not None else None,
            lambda labels: self._read_priority.pace(source.rows_with(labels), urgent=urgent),
            partial(source.attributes, category),
        )
        # Then every change that the read has seen is recorded, and other categories have it too.
        source.wait_until_applied()
        with self._lock:
            catch_up(partition, unloaded.missed)
            if len(partition):
                self._partitions[category] = partition
                # Not now: a search that waits for the rows need not wait for graphs.
                self._maintenance.await_graphs(category)
            del self._unloaded[category]
        self._report_loaded([category])

    def _report_loaded(self, categories: Sequence[str]) -> None:
        if categories:
            self._observer(CategoriesLoaded(categories, len(self._unloaded) + len(self._unloaded_small)))

    def _snapshots(self, conditions: Sequence[Condition]) -> list[Snapshot]:
        """Snapshots of all categories at the same moment, so that a product that moves is in exactly one of them."""
        for loaded in self._unloaded_small.load_all():
            self._report_loaded(loaded)
        for category in list(self._unloaded):
            self._partition(category)
        with self._lock:
            large = [partition.snapshot(conditions) for partition in self._partitions.values()]
            return large + self._small.snapshots(conditions)

    def _maintain_small_if_needed(self) -> None:
        with self._lock:
            needed = self._unloaded_small.is_pending or self._small.needs_maintenance
            if self._maintains_small or not needed:
                return
            self._maintains_small = True
        if not self._maintenance.submit(self._maintain_small):
            self._maintains_small = False

    def _maintain_small(self) -> None:
        """Do one step, so that other categories have theirs in between."""
        self._small.maintain()
        batch = self._unloaded_small.pending_batch()
        try:
            self._report_loaded(self._unloaded_small.load(batch, urgent=False))
        except Exception as error:  # noqa: BLE001 - a search of the categories will raise it
            self._observer(IndexMaintenanceFailed(batch[0], error))
        self._maintains_small = False
        self._maintain_small_if_needed()

    def _on_row_file_failure(self, error: OSError) -> None:
        self._observer(RowFileFailed(error))

    def _on_fallback(self, category: str) -> partial[None]:
        return partial(self._observer, SearchFellBack(category))

    def _on_device_failure(self, category: str) -> Callable[[DeviceSearchError], None]:
        def on_failure(error: DeviceSearchError) -> None:
            self._observer(DeviceSearchFailed(category, error))
            self._maintenance.check(category)  # which builds graphs

        return on_failure


def _merge(results: Sequence[IndexResult], k: int) -> IndexResult:
    """Return the k nearest hits of several categories, exact if all of them are."""
    hits: list[Hit] = [hit for each in results for hit in each.hits]
    nearest = sorted(hits, key=lambda hit: (hit.distance, hit.product_id))[:k]
    return IndexResult(nearest, exact=all(each.exact for each in results))
