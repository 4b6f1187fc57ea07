"""Metrics: what is counted and what it costs where nobody counts, and that the page of all metrics is complete."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, get_args

import pytest

from lookalike_server.domain import events
from lookalike_server.domain.errors import LookalikeError, Rejection, deadline_exceeded, disk_full, exhausted, invalid
from lookalike_server.domain.observing import Observers, receiver
from lookalike_server.frontend.ipc import dumps, loads
from lookalike_server.index.row_counts import RowCounts
from lookalike_server.metrics import definitions
from lookalike_server.metrics.categories import MAX_CATEGORIES, OTHERS, bounded, bounded_recalls
from lookalike_server.metrics.cells import Counts
from lookalike_server.metrics.definitions import Definition
from lookalike_server.metrics.metrics import UNCOUNTED, Metrics
from lookalike_server.rpc.gate import Gate
from lookalike_server.rpc.status import rejection_of
from lookalike_server.telemetry import LogObserver
from support.fakes import RecordingObserver
from support.paths import ROOT
from support.scrapes import Scrape

DEFINED = {each.name: each for each in vars(definitions).values() if isinstance(each, Definition)}


def documented() -> dict[str, tuple[str, set[str]]]:
    """Return what docs/metrics.md says of each metric: its type and its labels."""
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\| [^|]+ \|$", page, re.MULTILINE)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_every_metric_is_documented() -> None:
    """docs/metrics.md has a row for every metric of a scrape, with its type and labels, and for nothing else."""
    registered = {}
    for family in Metrics().registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        given = DEFINED.get(name)
        labels = set(given.labels) if given else {label for sample in family.samples for label in sample.labels}
        registered[name] = (family.type, labels)
    assert registered.keys() >= DEFINED.keys()
    assert documented() == registered


def test_every_event_is_counted_or_for_others_only() -> None:
    """No kind of event is forgotten: it has a receiver here, or is listed as none that is counted."""
    metrics = Metrics()
    for kind in get_args(events.Event):
        assert (receiver(metrics, kind) is None) == (kind in UNCOUNTED), kind


ONLY_COUNTED = (
    events.CallStarted("/a.B/C", "unary"),
    events.StageCompleted("read", 0.1),
    events.ImagesEmbedded((0.1,), (0.1,)),
    events.EmbeddingMissed(),
    events.SearchPredicted(0.1),
    events.TransactionCommitted(1, 0.1),
    events.EventLoopLagged(0.1),
)


@pytest.mark.parametrize("event", ONLY_COUNTED, ids=lambda event: type(event).__name__)
def test_no_event_is_made_for_the_log_alone(event: Any) -> None:
    """Where only the log observes, stages make none of these; where metrics do too, they reach these directly."""
    log, metrics = LogObserver(), Metrics()
    assert receiver(log, type(event)) is None
    assert receiver(Observers(log), type(event)) is None
    assert receiver(Observers(log, metrics), type(event)) == receiver(metrics, type(event)) is not None
    log(event)  # and should one come, it is no error
    assert receiver(log, events.CallCompleted) is log


def test_several_observers_get_what_they_want() -> None:
    """Every observer that wants an event gets it, and one that takes everything gets all of them."""
    metrics, everything = Metrics(), RecordingObserver()
    observers = Observers(LogObserver(), metrics, everything)
    sent = (*ONLY_COUNTED, events.CallRejected("/a.B/C", Rejection.QUOTA))  # the log wants the last as well
    for event in sent:
        receive = receiver(observers, type(event))
        assert receive is not None
        receive(event)
    observers(events.GraphBuilt("Shoes", 1))
    assert everything.events == [*sent, events.GraphBuilt("Shoes", 1)]
    scrape = Scrape(metrics)
    assert scrape.value("lookalike_rejected_total", reason="quota") == 1
    assert scrape.value("lookalike_graph_builds_total") == 1


def test_rare_events() -> None:
    """Expired images, fallbacks, damage and each kind of fault move their metric."""
    metrics = Metrics()
    error = OSError("broken")
    for event in (
        events.ImagesDropped(cancelled=2, expired=3),
        events.SearchFellBack("Shoes"),
        events.CatalogDamaged(error, "restore"),
        events.CallCompleted("/grpc.health.v1.Health/Check", "INTERNAL", 0.0, "", error),
        events.ItemFailed(error),
        events.AuditLogFailed("audit.log", error),
        events.VectorDamaged("secret-product", 0),
        events.DeviceSearchFailed("Shoes", error),
    ):
        metrics(event)
    scrape = Scrape(metrics)
    assert scrape.labels("lookalike_images_dropped_total", "reason") == {"cancelled": 2, "expired": 3}
    assert scrape.value("lookalike_search_fallbacks_total") == 1
    assert scrape.value("lookalike_catalog_damaged") == 1
    faults = scrape.labels("lookalike_faults_total", "kind")
    assert {kind for kind, count in faults.items() if count} == {"call", "item", "audit_log", "vector", "device_search"}
    assert scrape.total("grpc_server_handled_total") == 0  # probes are no calls
    assert "secret-product" not in scrape.text


def test_histograms() -> None:
    """An observation is in the bucket that it equals and in all above; one above all bounds is in +Inf."""
    metrics = Metrics()
    for seconds in (0.0005, 0.0006, 11.0):
        metrics(events.TransactionCommitted(1, seconds))
    scrape = Scrape(metrics)

    def below(bound: str) -> float:
        return scrape.value("lookalike_commit_seconds_bucket", le=bound)

    assert [below(bound) for bound in ("0.0005", "0.001", "10.0", "+Inf")] == [1, 2, 2, 3]
    assert scrape.value("lookalike_commit_seconds_sum") == pytest.approx(11.0011)


def test_threads_lose_no_count() -> None:
    """Events that come from several threads at once are all counted."""
    counts = Counts(definitions.FAULTS)

    def count() -> None:
        for _ in range(20_000):
            counts.add("call")

    threads = [threading.Thread(target=count) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    (sample,) = counts.family().samples
    assert sample.value == 80_000


def test_the_largest_categories_have_names() -> None:
    """Of equal ones the names decide, so the choice is the same at every scrape; rows of no category are others'."""
    names = [f"c{number:03}" for number in range(MAX_CATEGORIES + 5)]
    counts = [(name, RowCounts(1, 2, 3)) for name in names]
    found = bounded([*counts, ("largest", RowCounts(9)), (OTHERS, RowCounts(7)), (None, RowCounts(0, 1))])
    assert list(found) == ["largest", *reversed(names[-MAX_CATEGORIES + 1 :]), OTHERS]
    assert found[OTHERS] == RowCounts(6 + 7, 2 * 6 + 1, 3 * 6)


def test_the_least_recall_stands_for_the_others() -> None:
    """A poor recall is seen also where its category has no series of its own."""
    assert bounded_recalls({"a": 0.9, "b": 0.8, "c": 0.3}, ["a", OTHERS]) == {"a": 0.9, OTHERS: 0.3}
    assert bounded_recalls({"a": 0.9}, ["a", OTHERS]) == {"a": 0.9}


def test_reasons_of_rejections() -> None:
    """A server that starts, one that drains and one with a full disk say so, and another error is no rejection."""
    gate = Gate()
    with pytest.raises(LookalikeError) as starting:
        gate.enter()
    gate.announce_drain()
    with pytest.raises(LookalikeError) as draining:
        gate.enter()
    errors = (starting.value, draining.value, disk_full(), invalid("k", "is 0"), deadline_exceeded(), KeyError("x"))
    reasons = [Rejection.STARTING, Rejection.DRAINING, Rejection.DISK_FULL, None, None, None]
    assert [rejection_of(error) for error in errors] == reasons


def test_a_rejection_keeps_its_reason_between_processes() -> None:
    """A front-end process counts a call that the engine process rejected under the same reason."""
    error = loads(dumps(exhausted("full", 1.0, Rejection.QUEUE_FULL)))
    assert error.rejection is Rejection.QUEUE_FULL


def test_a_server_without_metrics_does_not_import_the_client_library() -> None:
    """The library takes a good part of a start, so only a server with metrics imports it."""
    program = "import sys, lookalike_server.app, lookalike_server.frontend.supervisor; print([*sys.modules])"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "lookalike_server.app" in modules
    assert "prometheus_client" not in modules
    assert "'lookalike_server.metrics'" not in modules


def test_gpus(tmp_path: Path) -> None:
    """What NVIDIA's driver says of each GPU is exported, and what it does not say is absent."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile a driver with; `apt-get install g++`")
    source, library = ROOT / "tests/support/fake_nvml.cpp", tmp_path / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    program = (
        "from lookalike_server.metrics.metrics import Metrics; from prometheus_client import generate_latest;"
        " print(generate_latest(Metrics().registry).decode())"
    )
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    lines = [line for line in run.stdout.splitlines() if line.startswith("lookalike_gpu_")]
    assert lines == [
        'lookalike_gpu_memory_used_bytes{gpu="0"} 100.0',
        'lookalike_gpu_memory_used_bytes{gpu="1"} 200.0',
        'lookalike_gpu_memory_total_bytes{gpu="0"} 1000.0',
        'lookalike_gpu_memory_total_bytes{gpu="1"} 2000.0',
        'lookalike_gpu_utilization_ratio{gpu="0"} 0.37',
    ]
