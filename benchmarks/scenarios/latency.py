"""What the server adds to the model's own time when there is nothing to wait for: figures 3 and 6."""

from __future__ import annotations

import numpy as np

from benchmarks.environment import threads
from benchmarks.figures.bench import Bench, Figure
from benchmarks.generator import Shape
from benchmarks.jobs import Target
from benchmarks.rounds import Spread, paired


def added(bench: Bench, ours: Target, echo: Target, bound: float) -> list[Figure]:
    """One caller: the median call less the median of the fastest run of the model, over the median echo of the bytes.

    And the same over an echo that is called as often as the model can answer: a call that comes only now and then finds
    threads asleep and caches cold, in the echo as in any server. Turns are short, since the difference of two figures
    suffers from drift more than their ratio.
    """
    turn = max(0.3, bench.seconds / 2)
    shape = _fastest(bench, turn)
    bench.run(ours, callers=1, seconds=turn)
    bench.run(echo, callers=1, seconds=turn)
    rounds = []
    for _ in range(2 * bench.rounds):
        run = bench.bare.run(shape, turn).p50
        call = float(np.median(bench.run(ours, callers=1, seconds=turn).latency))
        bounce = float(np.median(bench.run(echo, callers=1, seconds=turn).latency))
        seldom = float(np.median(bench.run(echo, callers=1, seconds=turn, pause=run).latency))
        rounds.append((call, run, bounce, seldom))
    value = Spread.of([(call - run) / bounce for call, run, bounce, _ in rounds])
    at_its_pace = Spread.of([(call - run) / seldom for call, run, _, seldom in rounds])
    details = {
        "call_p50_ms": [call * 1e3 for call, _, _, _ in rounds],
        "run_p50_ms": [run * 1e3 for _, run, _, _ in rounds],
        "echo_p50_ms": [bounce * 1e3 for _, _, bounce, _ in rounds],
        "echo_at_the_models_pace_p50_ms": [seldom * 1e3 for _, _, _, seldom in rounds],
        "added_ms": Spread.of([(call - run) * 1e3 for call, run, _, _ in rounds]).median,
        "run": str(shape),
    }
    return [
        Figure("added latency", "echo of the same bytes", value, f"<= {bound}", value.median <= bound, details),
        Figure("added latency", "the echo at the model's pace", at_its_pace, "", None),
    ]


def idle(bench: Bench, ours: Target) -> Figure:
    """Calls to an idle server with rests between: how long the stats says they waited for a batch."""
    outcome = bench.run(ours, callers=1, seconds=max(2.0, bench.seconds), pause=0.05)
    queued = outcome.queue_us / 1e3
    value = Spread.of([float(ms) for ms in queued])
    details = {"calls": len(queued), "queue_ms_max": float(queued.max()), "queue_ms_p50": value.median}
    # No timer of any length is hidden in less than a thread's waking.
    return Figure("idle wait, ms", "stats's queue_us", value, "0 (< 0.2)", value.median < 0.2, details)


def _fastest(bench: Bench, turn: float) -> Shape:
    """One image on every core, or on one core where sharing it costs more than it gains."""
    wide, narrow = Shape(1, 1, threads()), Shape(1, 1, 1)
    pairs = paired(lambda: bench.bare.run(wide, turn), lambda: bench.bare.run(narrow, turn), 3)
    return wide if pairs.spread(lambda a, b: a.p50 / b.p50).median <= 1 else narrow
