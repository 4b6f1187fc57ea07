"""Load tests from a test: the command as a process, its report, and what worker processes report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lookalike_loadtest.plan import OK
from lookalike_loadtest.response_stats import ResponseDetails
from lookalike_loadtest.worker_messages import Call, WorkerUpdate

COMMAND = [sys.executable, "-c", "from lookalike_client.cli import main; main()"]


def start(address: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Start `lookalike --json load` with its output captured."""
    return subprocess.Popen(
        [*COMMAND, "--server", address, "--json", "load", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )


def interrupt(process: subprocess.Popen[str]) -> None:
    """Send Ctrl-C as a terminal does: to the command and the processes in its group."""
    os.killpg(process.pid, signal.SIGINT)


def report(address: str, *arguments: str | Path, status: int = 0) -> dict[str, Any]:
    """Run a load test that must end with this exit status; return its report."""
    with start(address, *arguments) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == status, err
    return dict(json.loads(out))


def ms(measured: dict[str, Any], which: str, percentile: str) -> float:
    """Return a percentile of a measurement's latency, service or failures."""
    return float(measured[which]["percentiles"][percentile]["ms"])


def update(
    calls: Sequence[Call],
    details: Sequence[tuple[int, ResponseDetails]] = (),
    messages: dict[int, str] | None = None,
) -> WorkerUpdate:
    """Make the update that a worker sends of these."""
    rows, detail_rows = array("q"), array("q")
    for call in calls:
        rows.extend(call)
    for kind, detail in details:
        detail_rows.extend((kind, *detail))
    return WorkerUpdate(rows.tobytes(), detail_rows.tobytes(), messages or {}, 0, 0.5, 2.0)


def answered(due: int, latency: int, kind: int = 0, lag: int = 0) -> Call:
    """Make a call that was answered; times in microseconds."""
    return Call(kind, OK, due, latency, latency - lag, lag)
