"""Runs ONNX Runtime on a device, with I/O binding and no server: reads variants from its standard input and answers.

`python -m benchmarks.gpu.bare MODEL PROVIDER ROWS`. The session is made as the server makes it, and run by one thread.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lookalike_server.domain.inference import Pixels
from lookalike_server.inference.device import Device, HostDevice, Slot
from lookalike_server.inference.io_binding import BoundSession
from lookalike_server.inference.manifest import ModelFolder, read_model_folder
from lookalike_server.inference.onnx_session import OnnxSession
from lookalike_server.inference.providers import CudaOptions

Run = Callable[[], None]
_GRAPHS = iter(range(1_000_000, 2_000_000))  # beyond those of a `BoundSession`


class Bare:
    """Sessions on one model, one for each way of running it."""

    def __init__(self, folder: ModelFolder, provider: str, rows: int) -> None:
        self._folder, self._provider, self._rows = folder, provider, rows
        self._session = cache(self._load)
        self._run = cache(self._bind)
        self._bound = cache(self._bind_slots)

    def measure(
        self, variant: Mapping[str, Any], batch: int, seconds: float, copies: bool, concurrent: int
    ) -> dict[str, Any]:
        """Return the images a second, and the median seconds of a run.

        Args:
            variant: Fields of `CudaOptions`.
            batch: Images in a run.
            seconds: How long to run.
            copies: Whether each run begins with the images here and ends with the embeddings here.
            concurrent: Batches in flight, each copied from elsewhere, as in the server; 0 is one run after the other.
        """
        key = json.dumps(variant, sort_keys=True)
        if concurrent:
            bound, images = self._bound(key, batch, concurrent)
            with ThreadPoolExecutor(concurrent) as threads:
                started = time.perf_counter()
                timings = threads.map(
                    lambda _: _repeated(lambda: bound.run(images), started + seconds), range(concurrent)
                )
                taken = [each for thread in timings for each in thread]
        else:
            _, _, slot = self._session(key)
            run = self._run(key, batch)

            def copied() -> None:
                slot.copy_in(batch)
                run()
                slot.copy_out(batch)

            started = time.perf_counter()
            taken = _repeated(copied if copies else run, started + seconds)
        return {"throughput": batch * len(taken) / (time.perf_counter() - started), "p50": statistics.median(taken)}

    def _load(self, key: str) -> tuple[OnnxSession, Device, Slot]:
        cuda = CudaOptions(**json.loads(key), max_batch_size=self._rows)
        session = OnnxSession(self._folder, self._provider, 0, cuda=cuda)
        model, device = self._folder.model, session.gpu() or HostDevice()
        slot = device.slot(self._rows, (model.height, model.width, 3), model.dim)
        slot.images[:] = 127
        return session, device, slot

    def _bind_slots(self, key: str, batch: int, concurrent: int) -> tuple[BoundSession, Pixels]:
        session, device, slot = self._session(key)
        bound = BoundSession(session, device, self._folder.model, rows=batch, in_flight=concurrent)
        images = np.array(slot.images[:batch])
        for _ in range(3):
            bound.run(images)
        return bound, images

    def _bind(self, key: str, batch: int) -> Run:
        session, _, slot = self._session(key)
        run = session.bind(self._kind(session), slot.input, slot.output, batch, next(_GRAPHS))
        slot.copy_in(batch)
        for _ in range(3):  # the first ones choose kernels, take memory and record
            run()
        return run

    def _kind(self, session: OnnxSession) -> str:
        return "cuda" if session.fixed_shapes else "cpu"


def _repeated(run: Callable[[], object], until: float) -> list[float]:
    """Run until a moment, at least once, and return the seconds of each run."""
    taken: list[float] = []
    while not taken or time.perf_counter() < until:
        begun = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begun)
    return taken


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
