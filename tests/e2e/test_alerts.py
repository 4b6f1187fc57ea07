"""A real Prometheus scrapes servers in trouble: each alert fires, and its runbook's first command shows the cause."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tools.boards import BOARDS, board_json

from support.alert_scenes import PID, SCENES, Running, started
from support.operations_page import first_command
from support.prometheus import RULES, SCALE, Prometheus, prometheus, tool

# Minutes of several servers in trouble, whose alerts come in real time.
pytestmark = pytest.mark.nightly

FIRES_SECONDS = 200.0
"""In which each alert fires on a machine that does much else; most take ten."""

# Each alert, the server that has what it is for, and what the first command of its runbook shows.
FIRES = (
    ("LookalikeRejectsCalls", "overload", r'reason="deadline"} [1-9]'),
    ("LookalikeQueueWaits", "overload", r'oldest_seconds{class="interactive",queue="inference"} [1-9]'),
    ("LookalikeSmallBatches", "overload", r"^max_batch_size = 1\b"),
    ("LookalikeLatencyBudgetBurn", "overload", r'instance="INSTANCE", stage="queue"'),
    ("LookalikeEventLoopLags", "overload", r"time\.sleep|stall_loop"),
    ("LookalikeCatalogDamaged", "damaged", r"row not in PRIMARY KEY order"),
    ("LookalikeErrorBudgetBurn", "damaged", r'grpc_code="DATA_LOSS", grpc_method="UpdateAttributes"'),
    ("LookalikeCertificateExpires", "tls", r"^notAfter="),
    ("LookalikeFaults", "recall", r"No such file.*audit_log_failed"),
    ("LookalikeSearchesFallBack", "recall", r"Women.*search_fell_back"),
    ("LookalikeDeadRows", "behind", r'dead_rows{category="Few"} 1\d{4}'),
    ("LookalikeIndexBehind", "behind", r'waiting_rows{category="Many"} 1\d{4}'),
    ("LookalikeDiskAlmostFull", "disk", r"catalog\.sqlite-wal"),
    ("LookalikeWalGrows", "disk", rf"^{PID} "),
    ("LookalikeDiskFillsUp", "disk", r"catalog\.sqlite-wal"),
)

UNTESTED = {
    "LookalikeBatchPadding": "batches are padded on a GPU only",
    "LookalikeRecallDrops": "pending only: what a poor graph loses is soon found by the index itself, and compared",
}
"""Alerts that do not fire here, with the reason."""

UNMOVED = {
    "lookalike_gpu_memory_used_bytes": "there is no GPU",
    "lookalike_gpu_memory_total_bytes": "there is no GPU",
    "lookalike_gpu_utilization_ratio": "there is no GPU",
    "lookalike_batch_padding_total": "batches are padded on a GPU only",
    "lookalike_certificate_expiry_timestamp_seconds": "changes with the certificate, which is not renewed here",
    "lookalike_build_info": "says what serves, and is always 1",
}
"""Metrics that are there, or would be, and do not move here, with the reason."""


@dataclass
class Troubled:
    """All servers, and the Prometheus that scrapes them."""

    servers: dict[str, Running]
    prometheus: Prometheus

    def shown(self, alert: str, name: str) -> str:
        """Run the first command of an alert's runbook as the operator of this server, and return what it prints."""
        running = self.servers[name]
        log = running.folder / "log"
        log.write_text("".join(f"{json.dumps(line)}\n" for line in list(running.server.log)))
        variables = {
            "METRICS": f"http://127.0.0.1:{running.metrics_port}/metrics",
            "PROMETHEUS": self.prometheus.url,
            "DATA": str(running.data),
            "LOG": str(log),
            "CERTIFICATE": str(running.folder / "server.pem"),
            "no_proxy": "*",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        done = subprocess.run(
            ["/bin/bash", "-c", first_command(alert)],
            env=os.environ | running.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        return done.stdout


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Troubled]:
    """Start every scene, and Prometheus; end all of it."""
    tool("prometheus")
    folder = tmp_path_factory.mktemp("alerts")
    with ExitStack() as stack:
        servers = [stack.enter_context(started(scene, folder / scene.name)) for scene in SCENES]
        (folder / "prometheus").mkdir()
        targets = {each.job: each.metrics_port for each in servers}
        scraping = stack.enter_context(prometheus(folder / "prometheus", targets))
        for each in servers:
            each.server.wait_for("serving")
        stack.enter_context(_troubles(servers))
        yield Troubled({each.scene.name: each for each in servers}, scraping)


class _troubles:  # noqa: N801 - a context manager that is used as a function
    """Runs what happens to the servers, in a thread with an event loop."""

    def __init__(self, servers: list[Running]) -> None:
        self._servers = servers
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        self._task = self._loop.create_task(self._all())
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)

    async def _all(self) -> None:
        await asyncio.gather(*(each.scene.trouble(each) for each in self._servers if each.scene.trouble is not None))


@pytest.mark.parametrize(("alert", "name", "cause"), FIRES, ids=[alert for alert, _, _ in FIRES])
def test_alert_fires_and_its_runbook_shows_the_cause(troubled: Troubled, alert: str, name: str, cause: str) -> None:
    """Real load or a real fault fires the alert, and the runbook's first command prints what causes it."""
    troubled.prometheus.wait_for_alert(alert, f"lookalike-{name}", FIRES_SECONDS)
    shown = troubled.shown(alert, name)
    cause = cause.replace("INSTANCE", f"127.0.0.1:{troubled.servers[name].metrics_port}")
    assert re.search(cause, shown, re.MULTILINE), shown


def test_a_poor_graph_makes_the_recall_alert_pending(troubled: Troubled) -> None:
    """Right after a graph with too few links was built the alert's condition holds, and the runbook shows the links."""
    seen = 'max_over_time(ALERTS{alertname="LookalikeRecallDrops",job="lookalike-recall"}[10m])'
    deadline = time.monotonic() + FIRES_SECONDS
    while not troubled.prometheus.query(seen) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert troubled.prometheus.query(seen)
    assert re.search(r"^hnsw_m = 3\b", troubled.shown("LookalikeRecallDrops", "recall"), re.MULTILINE)


def test_a_server_that_is_gone(troubled: Troubled) -> None:
    """A server that was killed is an alert, and the runbook's first command says that nothing listens."""
    running = troubled.servers["tls"]
    running.server.stop(9)
    troubled.prometheus.wait_for_alert("LookalikeTargetDown", running.job, FIRES_SECONDS)
    assert re.search("connect", troubled.shown("LookalikeTargetDown", "tls"))


def test_every_alert_is_tried(troubled: Troubled) -> None:
    """No alert is without a test here, but for those that are listed with the reason; a healthy server has none."""
    alerts = set(re.findall(r"alert: (\w+)", RULES.read_text(encoding="utf-8")))
    assert alerts == {alert for alert, _, _ in FIRES} | UNTESTED.keys() | {"LookalikeTargetDown"}
    # Others are about times, and this machine may do much else.
    untimed = {"LookalikeFaults", "LookalikeCatalogDamaged", "LookalikeWalGrows"}
    assert troubled.prometheus.fired("lookalike-healthy") & untimed == set()


def test_every_metric_of_boards_and_rules_moves(troubled: Troubled) -> None:
    """Each metric that a board or a rule names is there and has had several values, except for those listed."""
    rules = re.sub(r"#.*", "", RULES.read_text(encoding="utf-8"))
    text = rules + "".join(map(board_json, BOARDS))
    named = set(re.findall(r"\b(?:lookalike|grpc_server|process)_\w+\b", text)) - {"process_"}
    named -= {name for name in named if re.match(r"lookalike_(errors|slow_calls|serving)$", name)}
    named |= set(re.findall(r"\bjob:lookalike_\w+:\w+", text))
    assert len(named) > 40
    deadline = time.monotonic() + FIRES_SECONDS
    while (still := _unmoved(troubled.prometheus, named)) != UNMOVED.keys() and time.monotonic() < deadline:
        time.sleep(1)
    assert still == UNMOVED.keys()


def _unmoved(prometheus: Prometheus, names: set[str]) -> set[str]:
    """Return the metrics that have had one value at most until now.

    The share of faults is recorded of servers that have some, so its other value is that of all others: none.
    """
    window = f"{3 * 86400 // SCALE}s"
    still = set()
    for name in names:
        least = "0" if name.startswith("job:lookalike_errors:") else f"min(min_over_time({name}[{window}]))"
        found = prometheus.query(f"max(max_over_time({name}[{window}])) - {least}")
        if not found or float(found[0]["value"][1]) == 0.0:
            still.add(name)
    return still
