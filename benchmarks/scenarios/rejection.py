"""What a rejected call costs the server's process, beside an echo of the same bytes, and of few."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import Any

import grpc

from benchmarks.load import DEADLINE_S, ImageForm, LoadError, Outcome
from benchmarks.process_cost import processor_clock
from benchmarks.rounds import Spread
from benchmarks.scenarios.bench import Bench, Result
from benchmarks.servers.base import Target
from benchmarks.steady import REJECTED
from benchmarks.workloads import Workload, as_echo, workload_load
from lookalike_loadtest.requests import RequestSet
from lookalike_loadtest.worker_messages import WorkerConfig

OVER_ECHO = 1.1
"""How much more a rejection may cost than an echo of the same bytes."""

HELD_S = 3.0
"""Seconds that the model takes for an image: far more than `_HOPELESS`."""

_HOPELESS = 0.5  # seconds until the deadline of the calls that are rejected
_OTHERS = 0.01  # of the calls may have another end: their caller shares the cores, and may be too late itself
_TINY = bytes(16)
_HOLDERS = 3  # calls that keep the model busy: one that runs, and those that wait to run next


def over_echo(bench: Bench, target: Target, echo: Target, workload: Workload, form: ImageForm) -> list[Result]:
    """Compare calls that are all rejected, since the model is held, to an echo, in closed loops as busy as they can be.

    Args:
        bench: The means of measuring.
        target: Our server over a device that takes `HELD_S` an image.
        echo: The echo.
        workload: What is called; it must run the model.
        form: Raw images of the model's size, or JPEG files.

    Raises:
        LoadError: Calls were not rejected.
    """
    load = workload_load(workload, target, bench.model, form)
    same = as_echo(load, echo)
    tiny = replace(same, requests=[RequestSet(same.requests[0].method, generate=partial(repeat, _TINY))])
    costs: list[tuple[float, float, float]] = []
    with _held(load):
        _reject(bench, load)
        for _ in range(bench.rounds):
            rejected = _call_us(bench, target, load, rejected=True)
            costs.append((rejected, _call_us(bench, echo, same), _call_us(bench, echo, tiny)))
    request = f"{workload.title}, {form}"
    details = {
        "rejection_us": [ours for ours, _, _ in costs],
        "echo_us": [same_bytes for _, same_bytes, _ in costs],
        "tiny_echo_us": [few for _, _, few in costs],
        "concurrency": bench.concurrency,
    }
    over_same = Spread.of([ours / same_bytes for ours, same_bytes, _ in costs])
    over_tiny = Spread.of([ours / few for ours, _, few in costs])
    return [
        Result.at_most(f"rejection: {request}", "echo of the same bytes", over_same, OVER_ECHO, details),
        Result.at_most(f"rejection: {request}", f"echo of {len(_TINY)} bytes", over_tiny, None, details),
    ]


def _reject(bench: Bench, load: WorkerConfig) -> Outcome:
    outcome = bench.load.run(
        load, bench.seconds, concurrency=bench.concurrency, deadline=_HOPELESS, failure_pause=0.0
    ).check(all_answered=False)
    others = float((outcome.code != REJECTED).mean()) if len(outcome.code) else 1.0
    if others > _OTHERS:
        raise LoadError(f"{others:.1%} of the calls were not rejected, among them: {outcome.message or 'answers'}")
    return outcome


def _call_us(bench: Bench, target: Target, load: WorkerConfig, *, rejected: bool = False) -> float:
    """Return the microseconds, user and system, that all threads of the process spent on a call."""
    before = processor_clock(target.pid)
    if rejected:
        outcome = _reject(bench, load)
    else:
        outcome = bench.load.run(load, bench.seconds, concurrency=bench.concurrency).check(all_answered=True)
    return 1e6 * (processor_clock(target.pid) - before) / len(outcome.code)


@contextmanager
def _held(load: WorkerConfig) -> Iterator[None]:
    """Keep the model busy, and calls waiting for it, for as long as the block runs."""
    requests = load.requests[0]
    over = False

    def hold(number: int) -> None:
        with grpc.insecure_channel(load.target) as channel:
            call: Any = channel.unary_unary(requests.method)
            at = 0
            while not over:
                at += 1
                request = requests.templates[0].render(number * 1_000_000 + at)
                try:
                    call(request, timeout=DEADLINE_S)
                except grpc.RpcError:
                    time.sleep(0.05)  # the server is ending, or has no room

    with ThreadPoolExecutor(_HOLDERS) as threads:
        holding = [threads.submit(hold, number) for number in range(_HOLDERS)]
        time.sleep(0.5)  # until their calls have arrived
        try:
            yield
        finally:
            over = True
    for each in holding:
        each.result()
