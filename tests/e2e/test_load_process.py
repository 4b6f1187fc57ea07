"""Load tests that are cut short, by Ctrl-C, by a process that dies, or by a server that goes away, still report."""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from lookalike_client import Client, ProductInput
from support.loads import COMMAND, interrupt, start
from support.scripted_server import ScriptedServer
from support.threaded_server import png

BY_ID = ("--workload", "search-id", "--warmup", "0", "--arrivals", "constant")


class WatchedServer:
    """A server with one product, which reports when a load is under way.

    Attributes:
        server: The scripted server in front of the real one.
        loaded: Set with the thirtieth search.
        leaves: Whether the server drops all calls then, and listens no more.
    """

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.loaded = threading.Event()
        self.leaves = False
        self._searches = itertools.count(1)
        server.hooks["Search"] = self._count

    def _count(self) -> None:
        if next(self._searches) == 30:
            self.loaded.set()
            if self.leaves:
                self.server.drop_calls()


@pytest.fixture
def watched(server: ScriptedServer, real: Client) -> WatchedServer:
    """Return a server with a product."""
    assert all(status.ok for status in real.upsert([ProductInput("p", "Shoes", images=[png(1)])]))
    return WatchedServer(server)


def workers(process: subprocess.Popen[str]) -> list[int]:
    """Return the worker processes of a load test."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def ends(pid: int) -> bool:
    """Wait for a process, which need not be a child, to end; return whether it did."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 60)[0])
    finally:
        os.close(descriptor)


def finish(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    """Wait for a load test to end; return its report and its messages."""
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return json.loads(out), err


def test_ctrl_c_ends_a_load_with_its_report(watched: WatchedServer, tmp_path: Path) -> None:
    """What was measured until then is reported, with a warning; the exit code is 130."""
    page = tmp_path / "r.html"
    with start(
        watched.server.address, *BY_ID, "--rate", "50", "--duration", "600", "--processes", "2", "--out", page
    ) as process:
        assert watched.loaded.wait(60)
        pids = workers(process)
        interrupt(process)
        report, err = finish(process)
    assert process.returncode == 130
    assert len(pids) == 2
    assert all(map(ends, pids))
    assert report["interrupted"]
    assert 20 <= report["measurement"]["answered"] < 3000
    assert report["measurement"]["calls"] >= len(watched.server.requests("Search"))
    assert 0 < report["measurement"]["seconds"] < 60
    assert any(
        f"interrupted after {report['measurement']['seconds']:.1f} of 600 s" in each for each in report["warnings"]
    )
    assert "interrupted after" in page.read_text(encoding="utf-8")
    assert "no more calls are sent" in err


@pytest.mark.slow
def test_ctrl_c_ends_a_capacity_search_with_its_report(watched: WatchedServer) -> None:
    """A capacity search that is interrupted says so, with what it knows."""
    search = ("--find-capacity", "--p99", "30s", "--rate", "50", "--duration", "600")
    with start(watched.server.address, *BY_ID, *search, "--budget", "6000") as process:
        assert watched.loaded.wait(60)
        interrupt(process)
        report, _ = finish(process)
    assert process.returncode == 130
    assert report["capacity"]["highest_met"] is None
    assert report["summary"].endswith("it was interrupted.")


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once() -> None:
    """The first one is remembered, the second one ends the process as Ctrl-C ends most."""
    script = (
        "import os, signal; from lookalike_loadtest.cli.run import Interrupt; interrupt = Interrupt()\n"
        "with interrupt.handled():\n"
        "    os.kill(os.getpid(), signal.SIGINT); print(interrupt.seen, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT); print('not here')\n"
    )
    done = subprocess.run([COMMAND[0], "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "True\n")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_worker_process_that_dies_is_reported(watched: WatchedServer) -> None:
    """The other workers go on to the end, the report says which one is missing, and the exit code is 1."""
    with start(watched.server.address, *BY_ID, "--rate", "40", "--duration", "8", "--processes", "2") as process:
        assert watched.loaded.wait(60)
        os.kill(workers(process)[0], signal.SIGKILL)
        report, _ = finish(process)
    assert process.returncode == 1
    (lost,) = report["lost_processes"]
    assert lost["how"] == "was ended by SIGKILL"
    assert any(f"Worker process {lost['number']} was ended by SIGKILL" in each for each in report["warnings"])
    # the other one sent its half to the end
    assert 160 <= report["measurement"]["answered"] < 320
    assert report["measurement"]["series"][7]["due"] == 20


@pytest.mark.slow
def test_the_load_ends_without_workers(watched: WatchedServer) -> None:
    """When all workers have died the report comes with what they had reported."""
    with start(watched.server.address, *BY_ID, "--rate", "40", "--duration", "600") as process:
        assert watched.loaded.wait(60)
        os.kill(workers(process)[0], signal.SIGKILL)
        report, _ = finish(process)
    assert process.returncode == 1
    assert len(report["lost_processes"]) == 1
    assert report["measurement"]["seconds"] < 600


@pytest.mark.slow
def test_worker_processes_end_with_the_load_test(watched: WatchedServer) -> None:
    """A load test that is killed leaves no worker behind that goes on loading the server."""
    with start(watched.server.address, *BY_ID, "--rate", "40", "--duration", "600", "--processes", "2") as process:
        assert watched.loaded.wait(60)
        pids = workers(process)
        process.kill()
        process.communicate(timeout=60)
        assert len(pids) == 2
        assert all(map(ends, pids))


@pytest.mark.slow
def test_calls_to_a_server_that_went_away_are_failures(watched: WatchedServer) -> None:
    """They fail as UNAVAILABLE, at their times and each once, and the report comes."""
    watched.leaves = True
    with start(watched.server.address, *BY_ID, "--rate", "40", "--duration", "3") as process:
        report, _ = finish(process)
    assert process.returncode == 0
    measured = report["measurement"]
    assert measured["calls"] == sum(code["calls"] for code in measured["codes"].values()) == 120
    assert measured["answered"] <= 30  # fewer where some were still under way when the server went
    assert measured["codes"]["UNAVAILABLE"]["calls"] >= 60
    assert "UNAVAILABLE" in report["summary"]
