"""The ways of running a model on a GPU, and the process that runs each of them without a server."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.environment import Model
from benchmarks.gpu.served import environment
from benchmarks.processes import StartError
from benchmarks.rounds import Spread
from lookalike_server.inference.io_binding import IN_FLIGHT
from lookalike_server.inference.providers import CudaOptions

BATCHES = (1, 16, 32, 64, 128, 256)
CONCURRENT = (1, IN_FLIGHT, 3)
"""Batches in flight that are tried."""

DEFAULTS: Mapping[str, Any] = asdict(CudaOptions()) | {"max_concurrent_batches": IN_FLIGHT}
"""The server's, by the names of `CudaOptions`."""

ALTERNATIVES: Mapping[str, Any] = {
    "graphs": True,
    "prefer_nhwc": True,
    "use_tf32": False,
    "conv_algo_search": "exhaustive",
}
"""What each setting may be instead."""

GRID: tuple[dict[str, Any], ...] = ({}, {"prefer_nhwc": True}, {"graphs": True}, {"prefer_nhwc": True, "graphs": True})
"""What is run in every batch size; the first is the defaults. The other settings are tried on the fastest of these."""

ENOUGH = 0.97
"""Of the most images a second: the smallest batch that reaches it is the best, since a larger one only adds latency."""

_ANSWER_SECONDS = 90.0  # for one bare run: loading, and trying every kernel


@dataclass(frozen=True, slots=True)
class Trial:
    """One way of running a model.

    Attributes:
        variant: The fields of `CudaOptions` that are not the default.
        batch: Images in a run.
        concurrent: Batches in flight, as the server runs them; 0 is one run after the other with nothing copied.
    """

    variant: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 1
    concurrent: int = 0

    @property
    def key(self) -> str:
        """The same for the same way."""
        return json.dumps([dict(self.variant), self.batch, self.concurrent], sort_keys=True)

    @classmethod
    def of(cls, way: Mapping[str, Any]) -> Trial:
        """Read one that `Step.ways` has."""
        return cls(way["variant"], way["batch"], way["concurrent"])


@dataclass(frozen=True, slots=True)
class Way:
    """How the server is to run one model, and the images a second of that without a server."""

    model: Model
    variant: Mapping[str, Any]
    batch: int
    rate: Spread

    def flags(self, provider: str) -> list[str]:
        """Return the flags with which the server runs it so."""
        flags = ["--provider", provider, "--max-batch-size", str(self.batch), "--preferred-batch-size", "0"]
        for name, value in self.variant.items():
            flags += [f"--{setting_of(name).replace('_', '-')}", str(value).lower()]
        return flags


def setting_of(name: str) -> str:
    """Return the server's setting for a field of `CudaOptions`."""
    return f"{'cudnn' if name == 'conv_algo_search' else 'cuda'}_{name}" if name in ALTERNATIVES else name


class BareProcess:
    """A process of `benchmarks.gpu.bare`."""

    def __init__(self, stack: ExitStack, model: Model, provider: str, rows: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu.bare", str(model.folder), provider, str(rows)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        stack.callback(self._process.communicate)
        stack.callback(self._process.kill)  # it holds nothing that could be lost

    def run(self, trial: Trial, seconds: float, *, copies: bool = False) -> dict[str, Any]:
        """Run a model in one way for so many seconds; see `Bare.measure`.

        Raises:
            StartError: It cannot be run so.
        """
        assert self._process.stdin is not None  # noqa: S101 - it was started with pipes
        assert self._process.stdout is not None  # noqa: S101 - it was started with pipes
        request = {"variant": dict(trial.variant), "batch": trial.batch, "concurrent": trial.concurrent}
        request |= {"seconds": seconds, "copies": copies}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], _ANSWER_SECONDS)
        line = self._process.stdout.readline() if ready else b""
        if not ready:
            self._process.kill()
            raise StartError(f"no answer within {_ANSWER_SECONDS:.0f} s")
        if not line:
            raise StartError(f"the bare session ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise StartError(answer["error"])
        return answer
