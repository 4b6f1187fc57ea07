"""How fast graphs run on the CPU, as a server would run them."""

import os
import time
from collections.abc import Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TypeVar

from lookalike_exporter.graph.runner import GraphRunner
from lookalike_exporter.images import Pixels

ROUND_SECONDS = 0.2
"""The least duration of a round."""

MAX_SECONDS = 20.0
"""After which no further round begins. Each graph has one at least, so very slow networks take longer."""

_ROUNDS = 5

Key = TypeVar("Key", bound=Hashable)


def count_cores() -> int:
    """Count the processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure_rates(runners: Mapping[Key, GraphRunner], images: Pixels, concurrency: int = 1) -> dict[Key, float]:
    """Time runners in turns, so that a noisy machine is noisy for all.

    Args:
        runners: At least one.
        images: [N, height, width, 3] uint8 RGB, the batch of each run.
        concurrency: Runs at once.

    Returns:
        The median images a second of each.
    """
    rates: dict[Key, list[float]] = {key: [] for key in runners}
    with ThreadPoolExecutor(concurrency) as pool:
        for runner in runners.values():
            _run(runner, images, concurrency, pool)
        start = time.perf_counter()
        while len(next(iter(rates.values()))) < _ROUNDS:
            for key, runner in runners.items():
                begin, done = time.perf_counter(), 0
                while done == 0 or time.perf_counter() - begin < ROUND_SECONDS:
                    done += _run(runner, images, concurrency, pool)
                rates[key].append(done / (time.perf_counter() - begin))
            if time.perf_counter() - start > MAX_SECONDS:
                break
    return {key: median(each) for key, each in rates.items()}


def _run(runner: GraphRunner, images: Pixels, concurrency: int, pool: ThreadPoolExecutor) -> int:
    """Run the batch once in each thread; return how many images that embedded."""
    return sum(map(len, pool.map(runner.run, [images] * concurrency)))
