"""The observer that counts, and the registry from which everything is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from lookalike_server.domain import events
from lookalike_server.domain.errors import Rejection
from lookalike_server.domain.observing import SelectiveObserver
from lookalike_server.metrics import definitions
from lookalike_server.metrics.cells import Buckets, Counts, Histograms, gauge
from lookalike_server.metrics.state import State
from lookalike_server.pausing import pausing

if TYPE_CHECKING:
    from lookalike_server.engine.engine import Engine
    from lookalike_server.index.category_index import CategoryIndex
    from lookalike_server.rpc.server import RpcServer
    from lookalike_server.scheduling.fair_queue import FairQueue

E = TypeVar("E", bound=events.Event)

UNCOUNTED = (
    events.CategoriesLoaded,
    events.CatalogChecked,
    events.CredentialsFileReloaded,
    events.RecallMeasured,  # the index has the average
    events.StageTraced,  # one for each of `StageCompleted`, for traces
    events.TraceExportFailed,  # a fault of the collector, not of this server
)
"""What is for the log or for traces only."""


CALL_FAULT = "call"
FAULTS: Mapping[type[Any], str] = {
    events.BatchFailed: "batch",
    events.BatchSplit: "memory",
    events.ItemFailed: "item",
    events.IndexMaintenanceFailed: "index",
    events.GraphFileUnusable: "graph_file",
    events.GraphFileFailed: "graph_file",
    events.RowFileUnusable: "row_file",
    events.RowFileFailed: "row_file",
    events.DeviceSearchFailed: "device_search",
    events.VectorDamaged: "vector",
    events.CatalogCheckFailed: "catalog_check",
    events.CredentialsFileRejected: "credentials",
    events.AuditLogFailed: "audit_log",
}
"""The `kind` of each fault, beside that of calls."""


class _Calls:
    """The calls of one method: how many began, how many ended with each code, and how long they took."""

    __slots__ = ("ended", "labels", "seconds", "started")

    def __init__(self, method: str, kind: str) -> None:
        _, service, name = method.split("/")
        self.labels = (kind, service, name)
        self.started = 0
        self.ended: dict[str, int] = {}
        self.seconds = Buckets(definitions.HANDLING.buckets)


class Metrics(SelectiveObserver, Collector):
    """Counts events. One thread reports those of calls and images: the event loop's.

    Attributes:
        registry: Everything, with what `prometheus_client` knows of the process; any thread may collect.
    """

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self._calls: dict[str, _Calls] = {}
        self._rejected = Counts(definitions.REJECTED, *Rejection)
        self._stages = Histograms(definitions.STAGE, "read", "decode", "queue", "inference", "search", "write")
        self._queue, self._inference = self._stages.of("queue"), self._stages.of("inference")
        self._batches = Histograms(definitions.BATCH_SIZE)
        self._batch = self._batches.of()
        self._padding = Counts(definitions.PADDING)
        self._dropped = Counts(definitions.DROPPED, "cancelled", "expired")
        self._late_seconds = Histograms(definitions.LATE)
        self._late = self._late_seconds.of()
        self._lookups = Counts(definitions.LOOKUPS, "hit", "in_flight", "miss")
        self._lag = Histograms(definitions.LOOP_LAG)
        self._graphs = Counts(definitions.GRAPH_BUILDS)
        self._fallbacks = Counts(definitions.FALLBACKS)
        self._commits = Histograms(definitions.COMMIT)
        self._operations = Histograms(definitions.COMMIT_OPERATIONS)
        self._faults = Counts(definitions.FAULTS, CALL_FAULT, *FAULTS.values())
        self._is_damaged = False
        self._state = State()
        self._receivers: Mapping[type[Any], Callable[[Any], None]] = self._make_receivers()
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def attach_server(self, server: RpcServer) -> None:
        """Read the bytes of messages and the certificates of this server from now on."""
        self._state.server = server

    def attach_engine(self, engine: Engine, index: CategoryIndex, data_dir: Path) -> None:
        """Read queues, model, rows, recall and files of this engine from now on."""
        self._state.engine, self._state.index, self._state.data_dir = engine, index, data_dir

    def attach_decoding(self, queue: FairQueue) -> None:
        """Read this queue of decoders from now on, in a process without an engine."""
        self._state.decoding = queue

    def receiver(self, kind: type[E]) -> Callable[[E], None] | None:
        """Return what counts events of this kind; None where nothing does."""
        return self._receivers.get(kind)

    def __call__(self, event: events.Event) -> None:
        """Count an event."""
        receive = self._receivers.get(type(event))
        if receive is not None:
            receive(event)

    def collect(self) -> Iterable[Metric]:
        """Yield what was counted, and what is read now."""
        yield from self._call_families()
        for counted in (
            self._rejected,
            self._stages,
            self._batches,
            self._padding,
            self._dropped,
            self._late_seconds,
            self._lookups,
            self._lag,
            self._graphs,
            self._fallbacks,
            self._commits,
            self._operations,
            self._faults,
        ):
            yield counted.family()
        yield gauge(definitions.DAMAGED, ((), float(self._is_damaged)))
        yield from self._state.families()

    def describe(self) -> Iterable[Metric]:
        """Yield nothing: the registry need not collect to know that no name is there twice."""
        return ()

    def _call_families(self) -> Iterable[Metric]:
        started, handled = Counts(definitions.STARTED), Counts(definitions.HANDLED)
        seconds = Histograms(definitions.HANDLING)
        for calls in pausing(list(self._calls.values())):
            # What ended first, so that no more calls have ended than began.
            for code, count in list(calls.ended.items()):
                handled.add(*calls.labels, code, count=count)
            seconds.put(calls.seconds, *calls.labels)
            started.add(*calls.labels, count=calls.started)
        return started.family(), handled.family(), seconds.family()

    def _make_receivers(self) -> Mapping[type[Any], Callable[[Any], None]]:
        return {
            events.CallStarted: self._on_call_started,
            events.CallCompleted: self._on_call_completed,
            events.CallRejected: lambda event: self._rejected.add(event.reason),
            events.StageCompleted: lambda event: self._stages.of(event.stage).observe(event.seconds),
            events.ImagesEmbedded: self._on_images_embedded,
            events.BatchCompleted: self._on_batch_completed,
            events.ImagesDropped: self._on_images_dropped,
            events.SearchPredicted: lambda event: self._late.observe(event.late_seconds),
            events.EmbeddingReused: lambda event: self._lookups.add("hit" if event.cached else "in_flight"),
            events.EmbeddingMissed: lambda _: self._lookups.add("miss"),
            events.EventLoopLagged: lambda event: self._lag.of().observe(event.seconds),
            events.TransactionCommitted: self._on_transaction_committed,
            events.GraphBuilt: lambda _: self._graphs.add(),
            events.SearchFellBack: lambda _: self._fallbacks.add(),
            events.CatalogDamaged: self._on_catalog_damaged,
            **{kind: partial(self._on_fault, name) for kind, name in FAULTS.items()},
        }

    def _on_fault(self, kind: str, _: events.Event) -> None:
        self._faults.add(kind)

    def _on_call_started(self, event: events.CallStarted) -> None:
        calls = self._calls.get(event.method)
        if calls is None:
            calls = self._calls[event.method] = _Calls(event.method, event.kind)
        calls.started += 1

    def _on_call_completed(self, event: events.CallCompleted) -> None:
        if event.fault is not None:
            self._faults.add(CALL_FAULT)
        calls = self._calls.get(event.method)
        if calls is not None:  # health and reflection report their faults only
            calls.ended[event.code] = calls.ended.get(event.code, 0) + 1
            calls.seconds.observe(event.seconds)

    def _on_images_embedded(self, event: events.ImagesEmbedded) -> None:
        for seconds in event.queue_seconds:
            self._queue.observe(seconds)
        for seconds in event.late_seconds:
            self._late.observe(seconds)

    def _on_batch_completed(self, event: events.BatchCompleted) -> None:
        self._batch.observe(event.size)
        self._inference.observe(event.seconds)
        if event.padded_size > event.size:
            self._padding.add(count=event.padded_size - event.size)

    def _on_images_dropped(self, event: events.ImagesDropped) -> None:
        for reason, count in (("cancelled", event.cancelled), ("expired", event.expired)):
            if count:
                self._dropped.add(reason, count=count)

    def _on_transaction_committed(self, event: events.TransactionCommitted) -> None:
        self._commits.of().observe(event.seconds)
        self._operations.of().observe(event.operations)

    def _on_catalog_damaged(self, _: events.CatalogDamaged) -> None:
        self._is_damaged = True
