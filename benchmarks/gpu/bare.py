"""Bare ONNX Runtime on a device, with IO binding and no server: reads shapes from its standard input and answers.

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
from lookalike_server.inference.providers import Card

Act = Callable[[], None]
_GRAPHS = iter(range(1, 1_000_000))


class Bare:
    """Sessions on one model, one for each way of running it."""

    def __init__(self, folder: ModelFolder, provider: str, rows: int) -> None:
        self._folder, self._provider, self._rows = folder, provider, rows
        self._session = cache(self._load)
        self._act = cache(self._bind)

    def measure(self, variant: Mapping[str, Any], batch: int, seconds: float, copies: bool) -> dict[str, Any]:
        """Images a second of one run after the other, and the median seconds of one.

        Args:
            variant: Fields of `Card`.
            batch: Images in a run.
            seconds: How long.
            copies: Whether each run begins with the images here and ends with the embeddings here.
        """
        key = json.dumps(variant, sort_keys=True)
        _, slot = self._session(key)
        act = self._act(key, batch)
        taken: list[float] = []
        started = time.perf_counter()
        while (begun := time.perf_counter()) < started + seconds:
            if copies:
                slot.copy_in(batch)
            act()
            if copies:
                slot.copy_out(batch)
            taken.append(time.perf_counter() - begun)
        return {"throughput": batch * len(taken) / (time.perf_counter() - started), "p50": statistics.median(taken)}

    def _load(self, key: str) -> tuple[OnnxSession, Slot]:
        card = Card(**json.loads(key), rows=self._rows)
        session = OnnxSession(self._folder, self._provider, 0, card=card)
        model = self._folder.model
        slot = (session.card() or HostDevice()).slot(self._rows, (model.height, model.width, 3), model.dim)
        slot.images[:] = 127
        return session, slot

    def _bind(self, key: str, batch: int) -> Act:
        session, slot = self._session(key)
        act = session.bind(self._kind(session), slot.input, slot.output, batch, next(_GRAPHS))
        slot.copy_in(batch)
        for _ in range(3):  # the first ones choose kernels, take memory and record
            act()
        return act

    def _kind(self, session: OnnxSession) -> str:
        return "cuda" if session.fixed_shapes else "cpu"


def main() -> None:
    """Answer until the input ends."""
    bare = Bare(read_model_folder(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3]))
    for line in sys.stdin:
        try:
            answer = bare.measure(**json.loads(line))
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no base; it is told, not hidden
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
