"""The ways of running a model on a GPU, and the process that runs each of them without a server."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks.environment import Model
from benchmarks.gpu.served import environment
from benchmarks.processes import StartError
from benchmarks.rounds import Spread

BATCHES = (1, 8, 32, 64, 128)
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"prefer_nhwc": True},
    {"graphs": True},
    {"prefer_nhwc": True, "graphs": True},
    {"prefer_nhwc": True, "graphs": True, "conv_algo_search": "exhaustive"},
    {"prefer_nhwc": True, "graphs": True, "use_tf32": False},
)
"""Fields of the server's `CudaOptions`; the first is its defaults."""

_ANSWER_SECONDS = 90.0  # for one bare run: loading, and trying every kernel


@dataclass(frozen=True, slots=True)
class Way:
    """One way of running one model, and its bare images a second."""

    model: Model
    variant: Mapping[str, Any]
    batch: int
    rate: Spread

    def flags(self, provider: str) -> list[str]:
        """Return the flags with which the server runs it so."""
        flags = ["--provider", provider, "--max-batch-size", str(self.batch), "--preferred-batch-size", "0"]
        for name, value in self.variant.items():
            library = "cudnn" if name == "conv_algo_search" else "cuda"
            flags += [f"--{library}-{name.replace('_', '-')}", str(value).lower()]
        return flags


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

    def run(self, variant: Mapping[str, Any], batch: int, seconds: float, *, copies: bool) -> dict[str, Any]:
        """Run one variant for so many seconds.

        Raises:
            StartError: It cannot be run so.
        """
        assert self._process.stdin is not None  # noqa: S101 - it was started with pipes
        assert self._process.stdout is not None  # noqa: S101 - it was started with pipes
        request = {"variant": dict(variant), "batch": batch, "seconds": seconds, "copies": copies}
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
