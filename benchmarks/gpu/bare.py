"""Runs ONNX Runtime on a device, with I/O binding and no server: reads variants from its standard input and answers.

`python -m benchmarks.gpu.bare MODEL PROVIDER ROWS`. The session is made as the server makes it, and run by one thread.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from lookalike_server.inference.device import HostDevice, Slot
from lookalike_server.inference.manifest import ModelFolder, read_model_folder
from lookalike_server.inference.onnx_session import OnnxSession
from lookalike_server.inference.providers import CudaOptions

Run = Callable[[], None]
_GRAPHS = iter(range(1, 1_000_000))


class Bare:
    """Sessions on one model, one for each way of running it."""

    def __init__(self, folder: ModelFolder, provider: str, rows: int) -> None:
        self._folder, self._provider, self._rows = folder, provider, rows
        self._session = cache(self._load)
        self._run = cache(self._bind)

    def measure(self, variant: Mapping[str, Any], batch: int, seconds: float, copies: bool) -> dict[str, Any]:
        """Return the images a second of one run after the other, and the median seconds of one.

        Args:
            variant: Fields of `CudaOptions`.
            batch: Images in a run.
            seconds: How long to run.
            copies: Whether each run begins with the images here and ends with the embeddings here.
        """
        key = json.dumps(variant, sort_keys=True)
        _, slot = self._session(key)
        run = self._run(key, batch)
        taken: list[float] = []
        started = time.perf_counter()
        while (begun := time.perf_counter()) < started + seconds:
            if copies:
                slot.copy_in(batch)
            run()
            if copies:
                slot.copy_out(batch)
            taken.append(time.perf_counter() - begun)
        return {"throughput": batch * len(taken) / (time.perf_counter() - started), "p50": statistics.median(taken)}

    def _load(self, key: str) -> tuple[OnnxSession, Slot]:
        cuda = CudaOptions(**json.loads(key), max_batch_size=self._rows)
        session = OnnxSession(self._folder, self._provider, 0, cuda=cuda)
        model = self._folder.model
        slot = (session.gpu() or HostDevice()).slot(self._rows, (model.height, model.width, 3), model.dim)
        slot.images[:] = 127
        return session, slot

    def _bind(self, key: str, batch: int) -> Run:
        session, slot = self._session(key)
        run = session.bind(self._kind(session), slot.input, slot.output, batch, next(_GRAPHS))
        slot.copy_in(batch)
        for _ in range(3):  # the first ones choose kernels, take memory and record
            run()
        return run

    def _kind(self, session: OnnxSession) -> str:
        return "cuda" if session.fixed_shapes else "cpu"


def main() -> None:
    """Answer until the input ends."""
    bare = Bare(read_model_folder(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3]))
    for line in sys.stdin:
        try:
            answer = bare.measure(**json.loads(line))
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no base; it is reported, not hidden
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
