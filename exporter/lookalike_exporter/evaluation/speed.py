"""How fast graphs run on the CPU."""

import time

import numpy as np

from lookalike_exporter.graph.runner import BATCH, Runner
from lookalike_exporter.images import Pixels

ROUND_SECONDS = 0.2
"""The least duration of a round."""

_ROUNDS = 5


def measure_speeds(graphs: dict[str, bytes], images: Pixels) -> dict[str, dict[int, float]]:
    """Time graphs by batches of 1 and of `BATCH`, side by side.

    Args:
        graphs: Serialized, by name.
        images: [N, height, width, 3] uint8 RGB, one batch.

    Returns:
        Images a second by batch size, by name.
    """
    runners = {name: Runner(graph) for name, graph in graphs.items()}
    one, several = _images_per_second(runners, images[:1]), _images_per_second(runners, images[:BATCH])
    return {name: {1: one[name], BATCH: several[name]} for name in graphs}


def _images_per_second(runners: dict[str, Runner], images: Pixels) -> dict[str, float]:
    """Take the median speed of each, in turns, so that a noisy machine is noisy for all."""
    for runner in runners.values():
        runner.run(images)
    rates: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(_ROUNDS):
        for name, runner in runners.items():
            begin, done = time.perf_counter(), 0
            while done < 2 * len(images) or time.perf_counter() - begin < ROUND_SECONDS:
                runner.run(images)
                done += len(images)
            rates[name].append(done / (time.perf_counter() - begin))
    return {name: float(np.median(each)) for name, each in rates.items()}
