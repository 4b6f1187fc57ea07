"""The limit as the benchmark sees it: a process that runs the model without any server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.environment import ROOT, Model

ONNX_RUNTIME = "onnxruntime"
OPENVINO = "openvino"
_NAMES = {ONNX_RUNTIME: "ONNX Runtime", OPENVINO: "OpenVINO"}


@dataclass(frozen=True, slots=True)
class RuntimeShape:
    """How the model is run: on which runtime, images a run, runs side by side, threads of each.

    ONNX Runtime has a session for every stream. `precision` is a key of `openvino_runtime.HINTS`.
    """

    name: str
    batch: int
    streams: int
    threads: int
    precision: str = "auto"

    def __str__(self) -> str:
        return f"{_NAMES[self.name]}, batch {self.batch} x {self.streams} stream(s) x {self.threads} thread(s)"


@dataclass(frozen=True, slots=True)
class BareOutcome:
    """Images a second, the median seconds of one run, and what the model computed in."""

    throughput: float
    p50: float
    precision: str


class BareError(RuntimeError):
    """Why the bare process cannot do what was asked."""


class BareProcess:
    """The model in a loop in a process of `benchmarks.bare_runtime`: the limit of what any server can do."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.openvino_unavailable: str | None = self._read()["openvino"]

    def run(self, shape: RuntimeShape, seconds: float) -> BareOutcome:
        """Run in this shape for so many seconds."""
        return BareOutcome(**self._request(shape, seconds=seconds))

    def decode_and_run(self, shape: RuntimeShape, files: Sequence[Path]) -> float:
        """Decode image files as the server does, run them in this shape, and return the images a second.

        Raises:
            BareError: The server's decoder cannot be imported here.
        """
        answer = self._request(shape, files=list(map(str, files)))
        if "error" in answer:
            raise BareError(answer["error"])
        return float(answer["throughput"])

    def _request(self, shape: RuntimeShape, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None  # noqa: S101 - it was started with pipes
        self._process.stdin.write(json.dumps({"shape": asdict(shape)} | request).encode() + b"\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - it was started with pipes
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the bare process ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def bare_process(model: Model) -> Iterator[BareProcess]:
    """Run the bare process for as long as the block runs."""
    paths = (str(ROOT / "server"), os.environ.get("PYTHONPATH", ""))  # for the server's decoder
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bare_runtime", str(model.folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield BareProcess(process)
    finally:
        process.kill()  # it holds nothing that could be lost
        process.communicate()
