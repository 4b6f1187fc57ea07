"""The benchmark's end of a load generator and of the bare session: processes that answer over a pipe."""

from __future__ import annotations

import itertools
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.environment import ROOT, Model
from benchmarks.jobs import Job, Outcome

_ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(
        filter(None, (str(ROOT), str(ROOT / "proto" / "python"), os.environ.get("PYTHONPATH")))
    ),
    "GRPC_VERBOSITY": "ERROR",  # a system that was stopped between figures is no news
}


class LoadGenerator:
    """Does jobs, one at a time, in its own process; numbers every image of the run again."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Take a started `benchmarks.load`."""
        self._process = process
        self._first = int.from_bytes(os.urandom(4)) << 32  # a server that outlives a run has seen other numbers
        self._seeds = itertools.count(1)

    def run(self, job: Job) -> Outcome:
        """Do one job."""
        job = replace(job, first=self._first, seed=next(self._seeds))
        self._first += job.limit
        stdin, stdout = _pipes(self._process)
        stdin.write(job.line())
        stdin.flush()
        header = stdout.read(8)
        if len(header) < 8:
            raise RuntimeError(f"the load generator ended with status {self._process.wait()}")
        return Outcome.unpack(stdout.read(struct.unpack("<Q", header)[0]))


@dataclass(frozen=True, slots=True)
class Shape:
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
    """`session.run` in a loop, in its own process: the limit of what any server can do."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Take a started `benchmarks.bare_ort`."""
        self._process = process

    def run(self, shape: Shape, seconds: float) -> BareOutcome:
        """Run so for so long."""
        stdin, stdout = _pipes(self._process)
        stdin.write(json.dumps(asdict(shape) | {"seconds": seconds}).encode() + b"\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"the bare session ended with status {self._process.wait()}")
        return BareOutcome(**json.loads(line))


@contextmanager
def load_generator() -> Iterator[LoadGenerator]:
    """A load generator for as long as the block runs."""
    with _piped(["-m", "benchmarks.load"], _ENVIRONMENT) as process:
        yield LoadGenerator(process)


@contextmanager
def bare_session(model: Model) -> Iterator[BareSession]:
    """The bare session for as long as the block runs."""
    with _piped(["-m", "benchmarks.bare_ort", str(model.folder)], _ENVIRONMENT) as process:
        yield BareSession(process)


@contextmanager
def _piped(arguments: list[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()  # it holds nothing that could be lost
        process.communicate()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[Any, Any]:
    return process.stdin, process.stdout
