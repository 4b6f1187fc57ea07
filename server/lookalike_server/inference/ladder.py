"""How the model is best run here, measured at start-up: batch sizes, and on CPUs lanes.

A CPU gains little from larger batches and much from lanes: runs side by side with one thread each. But a single photo
is faster on one wide session with every thread. So an idle server runs wide and a busy one in lanes, where measuring
says that it pays. All lanes call one session (ONNX Runtime allows it), so that they hold the weights once.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from lookalike_server.domain import Pixels, Rung, Session

WORTHWHILE = 1.05
"""Photos a second that a larger batch or another way of running must gain to be chosen; less is noise."""

_HANDOVER = 3e-4  # seconds; what a batch of one costs beside the model, measured with a null model
HARMLESS, _SMALL = 0.97, 4
"""Batches up to four may cost this much: under load fewer hand-overs make up for it, and others run smaller ones."""

_WORTH_LANES = 1e-3  # seconds of a single run; below, handing over is most of the work and only one loop does it
_RUNS = 3  # of every candidate; the fastest counts, because others can only slow a run down
_LATE_RATE, _EARLY_RATE = 0.05, 0.01  # steps towards later and earlier finishes: about the 5/6 quantile
_WORTH_LEARNING = 0.02  # seconds; below, handing photos from thread to thread is most of what is measured
_MOST_LATENESS = 3.0
_LEARNING_RATE = 0.2  # weight of the newest batch in how far costs have drifted


@dataclass(frozen=True, slots=True)
class Plan:
    """How batches are run.

    Attributes:
        wide: Runs a single photo on an idle server.
        lane: Runs batches on a busy one, `lanes` at once; may be `wide` itself.
        lanes: Runs at once.
        lane_batch: The most photos in a run.
        rungs: The batch sizes that a lane runs, smallest first, with their times while all lanes run.
        idle: A single photo on `wide`, with nothing beside it.
    """

    wide: Session
    lane: Session
    lanes: int
    lane_batch: int
    rungs: tuple[Rung, ...]
    idle: Rung

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """Everything that was measured and is run."""
        return self.rungs if self.wide is self.lane and self.lanes == 1 else (self.idle, *self.rungs)

    @property
    def ahead(self) -> int:
        """Batches that may be handed to the lanes before one is free, so that none waits for the event loop."""
        return 1 if self.lanes > 1 else 0

    def padded(self, size: int) -> int:
        """The rows that a batch is run with: the next rung where the provider needs fixed shapes, else as it is."""
        if not self.lane.fixed_shapes:
            return size
        return next(rung.batch_size for rung in self.rungs if rung.batch_size >= size)


def measure_plan(
    load: Callable[[int], Session],
    photo: Pixels,
    *,
    cores: int,
    max_batch: int,
    lanes: int = 0,
    lane_batch: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> Plan:
    """Load the model, try the ways of running it, keep what pays, and warm every shape that will run.

    Args:
        load: Loads a session with so many threads a run; 0 for every core.
        photo: Any model input, uint8 [height, width, 3].
        cores: Cores of this machine.
        max_batch: The most photos in a run.
        lanes: Runs at once; 0 to find out.
        lane_batch: The most photos in a run of a lane; 0 to find out.
        clock: The source of moments.
    """
    wide = load(0)
    ways = [(wide, 1)] if lanes in (0, 1) else []
    (idle,) = _climb(wide, photo, [1], 1, clock, every=True)
    may_gain = cores > 1 and wide.gains_from_lanes and idle.seconds > _WORTH_LANES
    if lanes > 1 or (lanes == 0 and may_gain):
        ways.append((load(1), lanes or cores))
    limit = min(lane_batch or max_batch, max_batch)
    sizes = sorted({2**power for power in range(limit.bit_length()) if 2**power < limit} | {limit})
    best: Plan | None = None
    for session, count in ways:
        rungs = _climb(session, photo, sizes, count, clock, every=lane_batch > 0)
        plan = Plan(wide, session, count, rungs[-1].batch_size, rungs, idle)
        # Equal on a quiet machine, lanes win beside gRPC: a wide run waits for its thread that was interrupted.
        if best is None or _rate(plan.rungs[-1]) > HARMLESS * _rate(best.rungs[-1]):
            best = plan
    assert best is not None  # noqa: S101 - there is always one way
    _warm(best, photo)
    return best


def lower_priority(nice: int) -> None:
    """Have the calling thread, and those that it starts, yield to others: taking and refusing calls must stay prompt.

    Linux has a niceness for every thread; elsewhere it is the process's, and is left alone.
    """
    if nice and hasattr(os, "sched_getaffinity"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


class Costs:
    """What a batch is expected to take: the ladder's times, corrected by how the batches since have run."""

    def __init__(self, plan: Plan) -> None:
        sizes = [rung.batch_size for rung in plan.rungs]
        seconds = [rung.seconds for rung in plan.rungs]
        # Every size at once: asked for on every call and every batch.
        self._seconds = np.interp(range(plan.lane_batch + 1), sizes, seconds).tolist()
        self._photo = self._seconds[-1] / (plan.lane_batch * plan.lanes)
        self._drift = 1.0
        self._lateness = 1.0

    def batch(self, size: int) -> float:
        """Seconds that a run of so many photos is expected to take."""
        return self._drift * self._seconds[size]

    def queue(self, photos: int) -> float:
        """Seconds in which so many photos are expected to leave the queue."""
        return self._drift * photos * self._photo

    def finish(self, seconds: float) -> float:
        """Seconds after which a photo is embedded that should take so many, as predictions have been kept lately."""
        return seconds * self._lateness

    def kept(self, predicted: float, actual: float) -> None:
        """Take in when a photo that was predicted to take so many seconds was embedded.

        Late ones weigh more than early ones, so that what is admitted is in time rather than on average.
        """
        if predicted < _WORTH_LEARNING:
            return
        error = actual / predicted - self._lateness
        step = (_LATE_RATE if error > 0 else _EARLY_RATE) * error
        self._lateness = min(_MOST_LATENESS, max(1.0, self._lateness + step))

    def learn(self, size: int, seconds: float) -> None:
        """Take in what a batch really took."""
        self._drift += _LEARNING_RATE * (seconds / self._seconds[size] - self._drift)


def _climb(
    session: Session, photo: Pixels, sizes: Sequence[int], lanes: int, clock: Callable[[], float], *, every: bool
) -> tuple[Rung, ...]:
    """Measure larger and larger batches until they gain nothing any more; `every` measures all of them."""
    rungs: list[Rung] = []
    with ThreadPoolExecutor(lanes) as pool:
        for size in sizes:
            batch = np.repeat(photo[np.newaxis], size, axis=0)
            seconds = min(_run_side_by_side(pool, session, batch, lanes, clock) for _ in range(_RUNS))
            rung = Rung(size, seconds, lanes)
            # Where shapes are fixed the small rungs stay: padding one photo to a large batch costs its whole time.
            needed = HARMLESS if size <= _SMALL else WORTHWHILE
            if rungs and not every and _rate(rung) < needed * _rate(rungs[-1]):
                break
            rungs.append(rung)
    return tuple(rungs)


def _run_side_by_side(
    pool: ThreadPoolExecutor, session: Session, batch: Pixels, lanes: int, clock: Callable[[], float]
) -> float:
    started = clock()
    _drain(pool.map(session.run, [batch] * lanes))
    return clock() - started


def _warm(plan: Plan, photo: Pixels) -> None:
    """Run every shape once on the session that will run it, so that no caller pays for a first time."""
    sizes = [rung.batch_size for rung in plan.rungs] if plan.lane.fixed_shapes else list(range(1, plan.lane_batch + 1))
    for size in sizes:
        plan.lane.run(np.repeat(photo[np.newaxis], size, axis=0))
    plan.wide.run(photo[np.newaxis])


def _rate(rung: Rung) -> float:
    """Photos a second; handing a batch over and back is the event loop's work, so lanes do not share it out."""
    return rung.batch_size / (rung.seconds / rung.lanes + _HANDOVER)


def _drain(results: Iterable[object]) -> None:
    for _ in results:
        pass
