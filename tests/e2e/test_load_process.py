"""Load tests that are cut short: by Ctrl-C, by a process that dies, by the server that goes away. The report comes."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from lookalike.v1 import search_service_pb2
from support.fake_server import FakeServer
from support.loads import COMMAND, interrupt, start

BY_ID = ("--workload", "search-id", "--warmup", "0", "--arrivals", "constant")


class WatchedServer(FakeServer):
    """Says when a load is under way.

    Attributes:
        loaded: Set with the thirtieth search.
        leaves: Whether it goes away then.
    """

    def __init__(self) -> None:
        self.loaded = threading.Event()
        self.leaves = False
        self._searches = 0
        super().__init__()

    def Search(  # noqa: N802 - the API's name
        self, request: search_service_pb2.SearchRequest, context: grpc.ServicerContext
    ) -> search_service_pb2.SearchResponse:
        """As the server does."""
        self._searches += 1
        if self._searches == 30:
            self.loaded.set()
            if self.leaves:
                self.go_away()
        return super().Search(request, context)


@pytest.fixture
def watched() -> Iterator[WatchedServer]:
    """A server with a product."""
    with WatchedServer() as server:
        server.put("p")
        yield server


def clients(process: subprocess.Popen[str]) -> list[int]:
    """The client processes of a load test."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def ends(pid: int) -> bool:
    """Whether a process that may be anybody's child comes to its end."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 60)[0])
    finally:
        os.close(descriptor)


def finish(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    """The report and the messages of a process that comes to its end."""
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return json.loads(out), err


def test_ctrl_c_ends_a_load_with_its_report(watched: WatchedServer, tmp_path: Path) -> None:
    """What was measured until then is reported and said to be less than was asked; the exit code is 130."""
    page = tmp_path / "r.html"
    with start(
        watched.address, *BY_ID, "--rate", "50", "--duration", "600", "--processes", "2", "--out", page
    ) as process:
        assert watched.loaded.wait(60)
        members = clients(process)
        interrupt(process)
        report, err = finish(process)
    assert process.returncode == 130
    assert len(members) == 2
    assert all(map(ends, members))
    assert report["interrupted"]
    assert 20 <= report["measurement"]["answered"] < 3000
    assert report["measurement"]["calls"] >= len(watched.requests("Search"))
    assert 0 < report["measurement"]["seconds"] < 60
    assert any(
        f"interrupted after {report['measurement']['seconds']:.1f} of 600 s" in each for each in report["warnings"]
    )
    assert "interrupted after" in page.read_text(encoding="utf-8")
    assert "no more calls are sent" in err


def test_ctrl_c_ends_a_ramp_with_its_report(watched: WatchedServer) -> None:
    """A search for the knee that is interrupted says so, with what it knows."""
    ramp = ("--find-capacity", "--p99", "30s", "--rate", "50", "--duration", "600")
    with start(watched.address, *BY_ID, *ramp, "--budget", "6000") as process:
        assert watched.loaded.wait(60)
        interrupt(process)
        report, _ = finish(process)
    assert process.returncode == 130
    assert report["ramp"]["held"] is None
    assert report["verdict"].endswith("it was interrupted.")


def test_a_second_ctrl_c_ends_at_once() -> None:
    """The first one is remembered, the second one ends the process as Ctrl-C ends most."""
    script = (
        "import os, signal; from lookalike_loadtest.cli.run import Interrupt; interrupt = Interrupt()\n"
        "with interrupt.taken():\n"
        "    os.kill(os.getpid(), signal.SIGINT); print(interrupt.seen, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT); print('not here')\n"
    )
    done = subprocess.run([COMMAND[0], "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "True\n")
    assert "Traceback" not in done.stderr


def test_a_client_process_that_dies_is_reported(watched: WatchedServer) -> None:
    """The other processes go on to the end, the report says who is missing, and the exit code is 1."""
    with start(watched.address, *BY_ID, "--rate", "40", "--duration", "8", "--processes", "2") as process:
        assert watched.loaded.wait(60)
        os.kill(clients(process)[0], signal.SIGKILL)
        report, _ = finish(process)
    assert process.returncode == 1
    (lost,) = report["lost_processes"]
    assert lost["how"] == "was ended by SIGKILL"
    assert any(f"Client process {lost['number']} was ended by SIGKILL" in each for each in report["warnings"])
    # the one that is left sent its half to the end
    assert 160 <= report["measurement"]["answered"] < 320
    assert report["measurement"]["series"][7]["due"] == 20


def test_no_client_process_left_ends_the_load(watched: WatchedServer) -> None:
    """When all have died there is nothing to wait for: the report comes with what they had told."""
    with start(watched.address, *BY_ID, "--rate", "40", "--duration", "600") as process:
        assert watched.loaded.wait(60)
        os.kill(clients(process)[0], signal.SIGKILL)
        report, _ = finish(process)
    assert process.returncode == 1
    assert len(report["lost_processes"]) == 1
    assert report["measurement"]["seconds"] < 600


def test_client_processes_end_with_the_tester(watched: WatchedServer) -> None:
    """A tester that is killed leaves nobody behind who goes on loading the server."""
    with start(watched.address, *BY_ID, "--rate", "40", "--duration", "600", "--processes", "2") as process:
        assert watched.loaded.wait(60)
        members = clients(process)
        process.kill()
        process.communicate(timeout=60)
        assert len(members) == 2
        assert all(map(ends, members))


def test_a_server_that_goes_away_is_failures(watched: WatchedServer) -> None:
    """Calls to nobody fail as UNAVAILABLE, at their times and each once, and the report comes."""
    watched.leaves = True
    with start(watched.address, *BY_ID, "--rate", "40", "--duration", "3") as process:
        report, _ = finish(process)
    assert process.returncode == 0
    measured = report["measurement"]
    assert measured["calls"] == 120
    assert 20 <= measured["answered"] <= 30
    assert measured["codes"]["UNAVAILABLE"]["calls"] >= 60
    assert "UNAVAILABLE" in report["verdict"]
