"""The steps in their order, each in a process of its own, so that one that fails or crashes does not stop the next."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from benchmarks.gpu.machine import about
from benchmarks.gpu.report import report

SECONDS = {"smoke": 40.0, "bare": 100.0, "serve": 105.0, "frontends": 80.0, "search": 95.0}
"""What each step may take of the default budget, which is their sum: seven minutes."""

_LATE_SECONDS = 20.0  # after its time, in which a step ends by itself


def measure(options: argparse.Namespace) -> None:
    """Run every step, write gpu.json with all that they wrote and gpu.md with verdicts; status 1 without a result."""
    if not any(options.models.glob("*/model.json")):
        sys.exit(f"{options.models} has no model folders")
    options.out.mkdir(parents=True, exist_ok=True)
    settings = {name: str(value) for name, value in vars(options).items() if value is not None}
    machine = about(options.commit, settings)
    begun = time.monotonic()
    steps = {}
    for name in options.steps.split(","):
        steps[name] = _run(name, options, SECONDS[name] * options.budget / sum(SECONDS.values()))
        seconds = round(time.monotonic() - begun, 1)
        written = {"about": machine, "steps": steps, "seconds": seconds}
        (options.out / "gpu.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
        (options.out / "gpu.md").write_text(report(machine, steps, seconds), encoding="utf-8")
    print((options.out / "gpu.md").read_text(encoding="utf-8"))
    if not any(step["results"] for step in steps.values()):
        sys.exit(1)


def _run(name: str, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Run one step for so many seconds, and return what it wrote."""
    path = options.out / f"{name}.json"
    path.unlink(missing_ok=True)
    given = [part for flag, value in vars(options).items() for part in (f"--{flag.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "benchmarks.gpu", *given, "--step", name, "--budget", str(seconds)]
    ending = ""
    process = subprocess.Popen(command, start_new_session=True)
    try:
        status = process.wait(seconds + _LATE_SECONDS)
        ending = f"ended with status {status}" if status else ""
    except subprocess.TimeoutExpired:
        ending = f"was killed after {seconds + _LATE_SECONDS:.0f} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with all that it has started
        process.wait()
    nothing: dict[str, Any] = {"results": [], "skipped": {}, "ways": [], "profiles": [], "seconds": seconds}
    written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else nothing
    if ending:
        written["skipped"][f"the rest of {name}"] = f"its process {ending}"
    return written
