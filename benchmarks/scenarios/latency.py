"""What the server adds to the model's own time when there is nothing to wait for."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.bare_process import ONNX_RUNTIME, RuntimeShape
from benchmarks.environment import threads
from benchmarks.rounds import Spread, paired
from benchmarks.scenarios.bench import Bench, Result
from benchmarks.servers.base import Target


def added(bench: Bench, ours: Target, echo: Target, bound: float) -> list[Result]:
    """Send one call at a time: the median call less the fastest run of the model, over the median echo of the bytes.

    The echo is called as often as the model can answer: a call that comes only now and then finds threads asleep and
    caches cold, in the echo as in any server. The same over an echo that never rests is reported too. Turns are short,
    since the difference of two values suffers from drift more than their ratio.
    """
    turn = max(0.3, bench.seconds / 2)
    shape = _fastest(bench, turn)
    bench.run(ours, concurrency=1, seconds=turn)
    bench.run(echo, concurrency=1, seconds=turn)
    rounds = []
    for _ in range(2 * bench.rounds):
        run = bench.bare.run(shape, turn).p50
        call = float(np.median(bench.run(ours, concurrency=1, seconds=turn).latency))
        bounce = float(np.median(bench.run(echo, concurrency=1, seconds=turn).latency))
        seldom = float(np.median(bench.run(echo, concurrency=1, seconds=turn, think_time=run).latency))
        rounds.append((call, run, bounce, seldom))
    over_busy_echo = Spread.of([(call - run) / bounce for call, run, bounce, _ in rounds])
    value = Spread.of([(call - run) / seldom for call, run, _, seldom in rounds])
    details = {
        "call_p50_ms": [call * 1e3 for call, _, _, _ in rounds],
        "run_p50_ms": [run * 1e3 for _, run, _, _ in rounds],
        "echo_p50_ms": [bounce * 1e3 for _, _, bounce, _ in rounds],
        "echo_at_the_models_pace_p50_ms": [seldom * 1e3 for _, _, _, seldom in rounds],
        "added_ms": Spread.of([(call - run) * 1e3 for call, run, _, _ in rounds]).median,
        "run": str(shape),
    }
    return [
        Result.at_most("added latency", "the echo at the model's pace", value, bound, details),
        Result.at_most("added latency", "echo of the same bytes", over_busy_echo, None),
    ]


def idle(bench: Bench, ours: Target) -> Result:
    """Call an idle server with rests between: how long its stats say that the calls waited for a batch."""
    outcome = bench.run(ours, concurrency=1, seconds=max(2.0, bench.seconds), think_time=0.05)
    queued = outcome.judged / 1e3
    value = Spread.of([float(ms) for ms in queued])
    details = {"calls": len(queued), "queue_ms_max": float(queued.max()), "queue_ms_p50": value.median}
    # no timer of any length can hide in less than a thread needs to wake up
    return Result("idle wait, ms", "queue_us of the stats", value, "0 (< 0.2)", value.median < 0.2, details)


def _fastest(bench: Bench, turn: float) -> RuntimeShape:
    """Return one image on every core, or on one core where sharing it costs more than it gains, on each runtime."""
    reference = RuntimeShape(ONNX_RUNTIME, 1, 1, threads(), bench.precision)
    others = [
        shape
        for name in bench.runtimes()
        for cores in (threads(), 1)
        if (shape := RuntimeShape(name, 1, 1, cores, bench.precision)) != reference
    ]
    ratios = [(1.0, reference)]
    for shape in others:
        pairs = paired(partial(bench.bare.run, shape, turn), partial(bench.bare.run, reference, turn), 3)
        ratios.append((pairs.spread(lambda a, b: a.p50 / b.p50).median, shape))
    return min(ratios, key=lambda each: each[0])[1]
