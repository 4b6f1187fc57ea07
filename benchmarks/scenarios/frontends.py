"""What front-end processes gain: calls a second through two of them over one process, and where the time goes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks.catalog.footprint import processor_seconds
from benchmarks.load import LoadGenerator, load_generator, model_load
from benchmarks.processes import ServerProcess
from benchmarks.rounds import Spread, paired
from benchmarks.scenarios.bench import Bench, Result
from benchmarks.servers.base import Target
from benchmarks.servers.timed_device import timed_device

DEVICE_US = 100.0
FRONTENDS = 2
LOAD_PROCESSES = 2
CONNECTIONS = 8  # of each load process: the kernel shares connections out by chance, and few would not be even


@dataclass(frozen=True, slots=True)
class Turn:
    """Answers a second, and the processor's microseconds that each process spent on one, oldest process first."""

    rate: float
    cpu_us: Sequence[float]


def over_one_process(bench: Bench) -> list[Result]:
    """Compare a closed loop on a server with two front-end processes to the same on a server without."""
    concurrency = bench.concurrency * LOAD_PROCESSES
    with ExitStack() as stack:
        load = stack.enter_context(load_generator(LOAD_PROCESSES))
        many, one = (stack.enter_context(timed_device(bench.model, count, DEVICE_US)) for count in (FRONTENDS, 0))

        def turn(target: Target, server: ServerProcess) -> Turn:
            return _turn(bench, load, concurrency, target, server)

        for each in (many, one):
            turn(*each)
        pairs = paired(lambda: turn(*many), lambda: turn(*one), bench.rounds)
    details: dict[str, Any] = {
        "device_us": DEVICE_US,
        "concurrency": concurrency,
        "cores": len(os.sched_getaffinity(0)),
        "frontends_per_s": [each.rate for each in pairs.first],
        "one_process_per_s": [each.rate for each in pairs.second],
        "frontends_cpu_us": [each.cpu_us for each in pairs.first],
        "one_process_cpu_us": [each.cpu_us for each in pairs.second],
    }
    rate = pairs.spread(lambda a, b: a.rate / b.rate)
    # the busiest process is what more cores do not help: the engine process, or the only one
    engine = Spread.of([_engine_cpu(each) for each in pairs.first])
    alone = Spread.of([sum(each.cpu_us) for each in pairs.second])
    bench.log(f"microseconds of processor time a call: {engine} in the engine process, {alone} in one process")
    share = pairs.spread(lambda a, b: sum(b.cpu_us) / _engine_cpu(a))
    return [
        Result(f"RPC/s, {FRONTENDS} front ends", "one process", rate, "reported", None, details),
        Result("headroom: one process's time a call", "the engine process's", share, "reported", None, {}),
    ]


def _engine_cpu(turn: Turn) -> float:
    return turn.cpu_us[1]  # the supervisor is first, and the engine process is forked next


def _turn(bench: Bench, load: LoadGenerator, concurrency: int, target: Target, server: ServerProcess) -> Turn:
    pids = sorted(server.processes())
    before = [processor_seconds(pid) for pid in pids]
    outcome = load.run(
        model_load(target, bench.model, connections=CONNECTIONS), bench.seconds, concurrency=concurrency
    ).check(all_answered=True)
    after = [processor_seconds(pid) for pid in pids]
    cpu = [1e6 * (end - begin) / len(outcome.code) for begin, end in zip(before, after, strict=True)]
    return Turn(outcome.throughput, cpu)
