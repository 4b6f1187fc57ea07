"""What front-end processes are worth: calls a second through two of them over one process, and where the time goes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures.bench import Bench, Figure
from benchmarks.generator import LoadGenerator, load_generator
from benchmarks.jobs import OK, Target
from benchmarks.processes import Server
from benchmarks.rounds import Spread, paired
from benchmarks.systems.timed_device import timed_device

DEVICE_US = 100.0
WORKERS = 2
CLIENTS = 2
CONNECTIONS = 8  # of each client: the kernel shares connections out by chance, and few would not be even
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Turn:
    """Answers a second, and the processor's microseconds that each process spent on one, busiest first."""

    rate: float
    cpu_us: Sequence[float]


def over_one_process(bench: Bench) -> list[Figure]:
    """A closed loop of all callers, in processes of their own, on a server with two workers and on one without."""
    with ExitStack() as stack:
        loads = [bench.load, *(stack.enter_context(load_generator()) for _ in range(CLIENTS - 1))]
        pool = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        many, one = (stack.enter_context(timed_device(bench.model, count, DEVICE_US)) for count in (WORKERS, 0))

        def turn(target: Target, server: Server) -> Turn:
            return _turn(bench, loads, pool, target, server)

        for each in (many, one):
            turn(*each)
        pairs = paired(lambda: turn(*many), lambda: turn(*one), bench.rounds)
    details: dict[str, Any] = {
        "device_us": DEVICE_US,
        "callers": bench.callers * CLIENTS,
        "cores": len(os.sched_getaffinity(0)),
        "workers_per_s": [each.rate for each in pairs.first],
        "one_process_per_s": [each.rate for each in pairs.second],
        "workers_cpu_us": [each.cpu_us for each in pairs.first],
        "one_process_cpu_us": [each.cpu_us for each in pairs.second],
    }
    rate = pairs.spread(lambda a, b: a.rate / b.rate)
    # The busiest process is what more cores do not help: of the process with the model, or of the only one.
    model = Spread.of([_model_cpu(each) for each in pairs.first])
    alone = Spread.of([sum(each.cpu_us) for each in pairs.second])
    bench.say(f"microseconds of a processor a call: {model} in the process with the model, {alone} in one process")
    share = pairs.spread(lambda a, b: sum(b.cpu_us) / _model_cpu(a))
    return [
        Figure(f"RPC/s, {WORKERS} workers", "one process", rate, "told", None, details),
        Figure("room: one process's time a call", "the model's process's", share, "told", None, {}),
    ]


def _model_cpu(turn: Turn) -> float:
    return turn.cpu_us[1]  # the supervisor is first, and the process with the model is forked next


def _turn(
    bench: Bench, loads: Sequence[LoadGenerator], pool: ThreadPoolExecutor, target: Target, server: Server
) -> Turn:
    pids = sorted(server.processes())
    before = [_cpu_seconds(pid) for pid in pids]
    outcomes = list(pool.map(lambda load: load.run(bench.job(target, connections=CONNECTIONS)), loads))
    after = [_cpu_seconds(pid) for pid in pids]
    for outcome in outcomes:
        if not (outcome.code == OK).all():
            raise RuntimeError(f"{target} did not answer every call: {outcome.fault}")
    calls = sum(len(outcome.code) for outcome in outcomes)
    cpu = [1e6 * (end - begin) / calls for begin, end in zip(before, after, strict=True)]
    return Turn(sum(outcome.throughput for outcome in outcomes), cpu)


def _cpu_seconds(pid: int) -> float:
    """User's and system's, of all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
