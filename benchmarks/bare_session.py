"""The bare session as the benchmark sees it: a process that runs the model without any server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from benchmarks.environment import ROOT, Model


@dataclass(frozen=True, slots=True)
class SessionShape:
    """How the bare session is run: images a run, sessions side by side, threads of each."""

    batch: int
    sessions: int
    threads: int

    def __str__(self) -> str:
        return f"batch {self.batch} x {self.sessions} session(s) x {self.threads} thread(s)"


@dataclass(frozen=True, slots=True)
class BareOutcome:
    """Images a second, and the median seconds of one run."""

    throughput: float
    p50: float


class BareSession:
    """`session.run` in a loop in a process of `benchmarks.bare_ort`: the limit of what any server can do."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def run(self, shape: SessionShape, seconds: float) -> BareOutcome:
        """Run in this shape for so many seconds."""
        assert self._process.stdin is not None  # noqa: S101 - it was started with pipes
        assert self._process.stdout is not None  # noqa: S101 - it was started with pipes
        self._process.stdin.write(json.dumps(asdict(shape) | {"seconds": seconds}).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the bare session ended with status {self._process.wait()}")
        return BareOutcome(**json.loads(line))


@contextmanager
def bare_session(model: Model) -> Iterator[BareSession]:
    """Run the bare session for as long as the block runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bare_ort", str(model.folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield BareSession(process)
    finally:
        process.kill()  # it holds nothing that could be lost
        process.communicate()
