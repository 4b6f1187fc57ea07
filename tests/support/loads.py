"""Load tests from a test: the command as a process, its report, and what client processes tell."""

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
from lookalike_loadtest.response_stats import Cost
from lookalike_loadtest.worker_messages import Call, News

COMMAND = [sys.executable, "-c", "from lookalike_client.cli import main; main()"]


def start(address: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """`lookalike load`, its output captured and its result asked for as JSON."""
    return subprocess.Popen(
        [*COMMAND, "--server", address, "--json", "load", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C, as a terminal has it: for the command and whatever processes it has in its group."""
    os.killpg(process.pid, signal.SIGINT)


def report(address: str, *arguments: str | Path, status: int = 0) -> dict[str, Any]:
    """The report of a load test that must end with this exit status."""
    with start(address, *arguments) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == status, err
    return dict(json.loads(out))


def ms(measured: dict[str, Any], which: str, percentile: str) -> float:
    """A percentile of a measurement's latency, service or failures."""
    return float(measured[which]["percentiles"][percentile]["ms"])


def news(calls: Sequence[Call], costs: Sequence[tuple[int, Cost]] = (), messages: dict[int, str] | None = None) -> News:
    """What a process would send of these."""
    rows, stats = array("q"), array("q")
    for call in calls:
        rows.extend(call)
    for kind, cost in costs:
        stats.extend((kind, *cost))
    return News(rows.tobytes(), stats.tobytes(), messages or {}, 0, 0.5, 2.0)


def answered(due: int, latency: int, kind: int = 0, lag: int = 0) -> Call:
    """A call that was answered; times in microseconds."""
    return Call(kind, OK, due, latency, latency - lag, lag)
