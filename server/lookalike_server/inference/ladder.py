"""How the model is best run here, measured at start-up: batch sizes, and on CPUs lanes.

A CPU gains little from larger batches and much from lanes: runs side by side with one thread each. But a single photo
is faster on one wide session with every thread. So an idle server runs wide and a busy one in lanes, where measuring
says that it pays. All lanes call one session (ONNX Runtime allows it), so that they hold the weights once.

A card computes one batch at a time and gains much from larger ones. Its lanes are the batches in flight: one computes,
another is copied.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from lookalike_server.domain import Pixels, Rung
from lookalike_server.protocols import Session

WORTHWHILE = 1.05
"""Photos a second that a larger batch must gain to be chosen; less is noise."""

HARMLESS, _SMALL = 0.93, 4
"""Lanes, and batches up to four, may cost this much on the quiet machine where they are measured.

Beside gRPC they gain more: a wide run waits for its thread that was interrupted, and every hand-over takes the caches
from the lanes. Int8 ResNet50, 16 callers, two cores: batches of four in lanes answered 7 % more than the same batches
run wide and than single photos in lanes, where the quiet machine saw no difference.
"""

_HOPELESS = 0.85  # of the best rate so far; larger batches are not even tried
_HANDOVER = 3e-4  # seconds; what a batch of one costs beside the model, measured with a null model
_WORTH_LANES = 1e-3  # seconds of a single run; below, handing over is most of the work and only one loop does it
_IN_PLACE = 3e-4  # seconds of the largest batch; about what a thread's waking and answering cost the event loop
_ROUNDS, _SECONDS = 6, 3.0  # of measuring every candidate in turn; a slow model has fewer rounds


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
        in_place: The event loop runs the model itself: that takes less than handing a batch to a thread and back.
    """

    wide: Session
    lane: Session
    lanes: int
    lane_batch: int
    rungs: tuple[Rung, ...]
    idle: Rung
    in_place: bool = False

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """Everything that was measured and is run."""
        return self.rungs if self.wide is self.lane and self.lanes == 1 else (self.idle, *self.rungs)

    @property
    def in_turns(self) -> bool:
        """Whether the lanes compute one after the other, and only their copies go side by side: on a card."""
        return self.lane.in_flight > 1

    @property
    def ahead(self) -> int:
        """Batches that may be handed to the lanes before one is free, so that none waits for the event loop."""
        return 1 if self.lanes > 1 and not self.in_turns else 0

    def padded(self, size: int) -> int:
        """The rows that a batch is run with: the next rung where the provider needs fixed shapes, else as it is."""
        if not self.lane.fixed_shapes:
            return size
        return next(rung.batch_size for rung in self.rungs if rung.batch_size >= size)

    def close(self) -> None:
        """Close the sessions; nothing is run after it."""
        self.lane.close()
        if self.wide is not self.lane:
            self.wide.close()


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
        lanes: Runs at once; 0 to find out, and whether a thread is worth it at all. A card has as many as its session.
        lane_batch: The most photos in a run of a lane; 0 to find out.
        clock: The source of moments.
    """
    limit = min(lane_batch or max_batch, max_batch)
    sizes = sorted({2**power for power in range(limit.bit_length()) if 2**power < limit} | {limit})
    every = lane_batch > 0
    wide = load(0)
    with ExitStack() as stack:

        def way(session: Session, count: int) -> _Way:
            pool = stack.enter_context(ThreadPoolExecutor(count))
            return _Way(session, count, photo, pool, clock)

        idle = way(wide, 1)
        idle.explore([1], every=True)
        in_turns = wide.in_flight > 1
        ways = [way(wide, wide.in_flight)] if in_turns or lanes in (0, 1) else []
        may_gain = cores > 1 and wide.gains_from_lanes and idle.seconds[1] > _WORTH_LANES
        if not in_turns and (lanes > 1 or (lanes == 0 and may_gain)):
            ways.append(way(load(1), lanes or cores))
        for each in ways:
            each.explore(sizes, every=every)
        _measure_in_turns([idle, *ways], clock)
    best, rungs = ways[0], ways[0].rungs(every=every)
    for each in ways[1:]:
        other = each.rungs(every=every)
        if each.rate(other[-1].batch_size) > HARMLESS * best.rate(rungs[-1].batch_size):
            best, rungs = each, other
    in_place = lanes == 0 and wide.gains_from_lanes and rungs[-1].seconds < _IN_PLACE
    plan = Plan(wide, best.session, best.lanes, rungs[-1].batch_size, rungs, Rung(1, idle.seconds[1], 1), in_place)
    _warm(plan, photo)
    return plan


def lower_priority(nice: int) -> None:
    """Have the calling thread, and those that it starts, yield to others: taking and refusing calls must stay prompt.

    Linux has a niceness for every thread; elsewhere it is the process's, and is left alone.
    """
    if nice and hasattr(os, "sched_getaffinity"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


class _Way:
    """One way of running the model, and the best time of each batch size that was tried."""

    def __init__(
        self, session: Session, lanes: int, photo: Pixels, pool: ThreadPoolExecutor, clock: Callable[[], float]
    ) -> None:
        self.session = session
        self.lanes = lanes
        self.seconds: dict[int, float] = {}
        self._photo = photo
        self._pool = pool
        self._clock = clock

    def explore(self, sizes: Sequence[int], *, every: bool) -> None:
        """Try larger and larger batches until they are clearly worse or very slow; `every` tries all of them."""
        for size in sizes:
            self.seconds[size] = math.inf
            self.measure(size)
            self.measure(size)  # the first run of a shape pays for its memory
            if not every and self.rate(size) < _HOPELESS * max(map(self.rate, self.seconds)):
                del self.seconds[size]
                break
            if not every and 2 * self.seconds[size] > _SECONDS:
                break

    def measure(self, size: int) -> None:
        """Run a batch of this size on every lane at once; the fastest counts, because others can only slow it down."""
        batch = np.repeat(self._photo[np.newaxis], size, axis=0)
        started = self._clock()
        _drain(self._pool.map(self.session.run, [batch] * self.lanes))
        self.seconds[size] = min(self.seconds[size], self._clock() - started)

    def rate(self, size: int) -> float:
        """Photos a second; handing a batch over and back is the event loop's work, so lanes do not share it out."""
        return size / (self.seconds[size] / self.lanes + _HANDOVER)

    def rungs(self, *, every: bool) -> tuple[Rung, ...]:
        """The sizes that pay, up to the first that does not; where shapes are fixed, small ones save padding."""
        kept: list[int] = []
        for size in self.seconds:
            needed = HARMLESS if size <= _SMALL else WORTHWHILE
            if kept and not every and self.rate(size) < needed * self.rate(kept[-1]):
                break
            kept.append(size)
        return tuple(Rung(size, self.seconds[size], self.lanes) for size in kept)


def _measure_in_turns(ways: Sequence[_Way], clock: Callable[[], float]) -> None:
    """Measure all candidates again and again, in turns: what else runs on the machine then meets them alike."""
    until = clock() + _SECONDS
    for _ in range(_ROUNDS):
        for way in ways:
            for size in way.seconds:
                way.measure(size)
        if clock() > until:
            break


def _warm(plan: Plan, photo: Pixels) -> None:
    """Run every shape once on the session that will run it, so that no caller pays for a first time."""
    sizes = [rung.batch_size for rung in plan.rungs] if plan.lane.fixed_shapes else list(range(1, plan.lane_batch + 1))
    for size in sizes:
        plan.lane.run(np.repeat(photo[np.newaxis], size, axis=0))
    plan.wide.run(photo[np.newaxis])


def _drain(results: Iterable[object]) -> None:
    for _ in results:
        pass
