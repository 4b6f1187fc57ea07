"""Runs the model without any server: reads shapes from its standard input and prints what they reach."""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.environment import Model, read_model
from benchmarks.images import raw_image


def measure(model: Model, batch: int, sessions: int, threads: int, seconds: float) -> dict[str, float]:
    """Return the images a second of sessions side by side, and the median seconds of a run."""
    base = np.frombuffer(raw_image(model.height, model.width), dtype=np.uint8)
    images = np.stack([np.roll(base.reshape(model.height, model.width, 3), at, axis=1) for at in range(batch)])
    runs = [_session(model.graph, threads, at).run for at in range(sessions)]
    for run in runs:
        run(None, {model.input_name: images})  # the first run of a shape pays for its memory
    durations: list[float] = []
    start = time.perf_counter()
    workers = [
        threading.Thread(target=_repeat, args=(run, {model.input_name: images}, start + seconds, durations))
        for run in runs
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    elapsed = time.perf_counter() - start
    return {"throughput": batch * len(durations) / elapsed, "p50": statistics.median(durations)}


def _repeat(run: Callable[..., Any], feed: dict[str, Any], until: float, durations: list[float]) -> None:
    while (begun := time.perf_counter()) < until:
        run(None, feed)
        durations.append(time.perf_counter() - begun)


@cache
def _session(graph: Path, threads: int, number: int) -> Any:
    """Return a session of its own for every number."""
    del number
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Answer until the input ends."""
    model = read_model(Path(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(measure(model, **json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
