"""How the model is best run here, measured at start-up: batch sizes, and on CPUs max_concurrent_batches.

A CPU gains little from larger batches and much from max_concurrent_batches: runs side by side with one thread each. But a single image
is faster on one wide session with every thread. So an idle server runs wide and a busy one in max_concurrent_batches, where measuring
says that it pays. All max_concurrent_batches call one session (ONNX Runtime allows it), so that they hold the weights once.

A card computes one batch at a time and gains much from larger ones. Its max_concurrent_batches are the batches in flight: one computes,
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

from lookalike_server.domain.inference import BatchProfile, Pixels
from lookalike_server.domain.protocols import Session

WORTHWHILE = 1.05
"""Images a second that a larger batch must gain to be chosen; less is noise."""

HARMLESS, _SMALL = 0.93, 4
"""Lanes, and batches up to four, may cost this much on the quiet machine where they are measured.

Beside gRPC they gain more: a wide run waits for its thread that was interrupted, and every hand-over takes the caches
from the max_concurrent_batches. Int8 ResNet50, 16 callers, two cores: batches of four in max_concurrent_batches answered 7 % more than the same batches
run wide and than single images in max_concurrent_batches, where the quiet machine saw no difference.
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
        latency_session: Runs a single image on an idle server.
        throughput_session: Runs batches on a busy one; may be `latency_session` itself.
        max_concurrent_batches: Batches that run at once.
        preferred_batch_size: The most images in a run.
        profiles: The batch sizes of `throughput_session`, smallest first, with their latencies at that concurrency.
        idle: A single image on `latency_session`, with nothing beside it.
        inline: The event loop runs the model itself: that takes less than handing a batch to a thread and back.
    """

    latency_session: Session
    throughput_session: Session
    max_concurrent_batches: int
    preferred_batch_size: int
    profiles: tuple[BatchProfile, ...]
    idle: BatchProfile
    inline: bool = False

    @property
    def batch_profiles(self) -> tuple[BatchProfile, ...]:
        """Everything that was measured and is run."""
        return (
            self.profiles
            if self.latency_session is self.throughput_session and self.max_concurrent_batches == 1
            else (self.idle, *self.profiles)
        )

    @property
    def serialized(self) -> bool:
        """Whether batches compute one after the other and only their copies overlap: on a GPU."""
        return self.throughput_session.in_flight > 1

    @property
    def prefetch(self) -> int:
        """Batches handed over before a thread is free, so that no thread waits for the event loop."""
        return 1 if self.max_concurrent_batches > 1 and not self.serialized else 0

    def padded(self, size: int) -> int:
        """The rows that a batch is run with: the next profile where the provider needs fixed shapes, else as it is."""
        if not self.throughput_session.fixed_shapes:
            return size
        return next(profile.batch_size for profile in self.profiles if profile.batch_size >= size)

    def close(self) -> None:
        """Close the sessions; nothing is run after it."""
        self.throughput_session.close()
        if self.latency_session is not self.throughput_session:
            self.latency_session.close()


def measure_plan(
    load: Callable[[int], Session],
    image: Pixels,
    *,
    cores: int,
    max_batch_size: int,
    max_concurrent_batches: int = 0,
    preferred_batch_size: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> Plan:
    """Load the model, try the ways of running it, keep what pays, and warm every shape that will run.

    Args:
        load: Loads a session with so many threads a run; 0 for every core.
        image: Any model input, uint8 [height, width, 3].
        cores: Cores of this machine.
        max_batch_size: The most images in a run.
        max_concurrent_batches: Runs at once; 0 to find out, and whether a thread is worth it at all. A card has as many as its session.
        preferred_batch_size: The most images in a run of a lane; 0 to find out.
        clock: The source of moments.
    """
    limit = min(preferred_batch_size or max_batch_size, max_batch_size)
    sizes = sorted({2**power for power in range(limit.bit_length()) if 2**power < limit} | {limit})
    every = preferred_batch_size > 0
    wide = load(0)
    with ExitStack() as stack:

        def way(session: Session, count: int) -> _Way:
            pool = stack.enter_context(ThreadPoolExecutor(count))
            return _Way(session, count, image, pool, clock)

        idle = way(wide, 1)
        idle.explore([1], every=True)
        serialized = wide.in_flight > 1
        ways = [way(wide, wide.in_flight)] if serialized or max_concurrent_batches in (0, 1) else []
        may_gain = cores > 1 and wide.gains_from_lanes and idle.seconds[1] > _WORTH_LANES
        if not serialized and (max_concurrent_batches > 1 or (max_concurrent_batches == 0 and may_gain)):
            ways.append(way(load(1), max_concurrent_batches or cores))
        for each in ways:
            each.explore(sizes, every=every)
        _measure_in_turns([idle, *ways], clock)
    best, profiles = ways[0], ways[0].profiles(every=every)
    for each in ways[1:]:
        other = each.profiles(every=every)
        if each.rate(other[-1].batch_size) > HARMLESS * best.rate(profiles[-1].batch_size):
            best, profiles = each, other
    inline = max_concurrent_batches == 0 and wide.gains_from_lanes and profiles[-1].seconds < _IN_PLACE
    plan = Plan(
        wide,
        best.session,
        best.max_concurrent_batches,
        profiles[-1].batch_size,
        profiles,
        BatchProfile(1, idle.seconds[1], 1),
        inline,
    )
    _warm(plan, image)
    return plan


def lower_priority(nice: int) -> None:
    """Have the calling thread, and those that it starts, yield to others: taking and rejecting calls must stay prompt.

    Linux has a niceness for every thread; elsewhere it is the process's, and is left alone.
    """
    if nice and hasattr(os, "sched_getaffinity"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


class _Way:
    """One way of running the model, and the best time of each batch size that was tried."""

    def __init__(
        self,
        session: Session,
        max_concurrent_batches: int,
        image: Pixels,
        pool: ThreadPoolExecutor,
        clock: Callable[[], float],
    ) -> None:
        self.session = session
        self.max_concurrent_batches = max_concurrent_batches
        self.seconds: dict[int, float] = {}
        self._image = image
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
        batch = np.repeat(self._image[np.newaxis], size, axis=0)
        started = self._clock()
        _drain(self._pool.map(self.session.run, [batch] * self.max_concurrent_batches))
        self.seconds[size] = min(self.seconds[size], self._clock() - started)

    def rate(self, size: int) -> float:
        """Images a second; handing a batch over and back is the event loop's work, so max_concurrent_batches do not share it out."""
        return size / (self.seconds[size] / self.max_concurrent_batches + _HANDOVER)

    def profiles(self, *, every: bool) -> tuple[BatchProfile, ...]:
        """The sizes that pay, up to the first that does not; where shapes are fixed, small ones save padding."""
        kept: list[int] = []
        for size in self.seconds:
            needed = HARMLESS if size <= _SMALL else WORTHWHILE
            if kept and not every and self.rate(size) < needed * self.rate(kept[-1]):
                break
            kept.append(size)
        return tuple(BatchProfile(size, self.seconds[size], self.max_concurrent_batches) for size in kept)


def _measure_in_turns(ways: Sequence[_Way], clock: Callable[[], float]) -> None:
    """Measure all candidates again and again, in turns: what else runs on the machine then meets them alike."""
    until = clock() + _SECONDS
    for _ in range(_ROUNDS):
        for way in ways:
            for size in way.seconds:
                way.measure(size)
        if clock() > until:
            break


def _warm(plan: Plan, image: Pixels) -> None:
    """Run every shape once on the session that will run it, so that no caller pays for a first time."""
    sizes = (
        [profile.batch_size for profile in plan.profiles]
        if plan.throughput_session.fixed_shapes
        else list(range(1, plan.preferred_batch_size + 1))
    )
    for size in sizes:
        plan.throughput_session.run(np.repeat(image[np.newaxis], size, axis=0))
    plan.latency_session.run(image[np.newaxis])


def _drain(results: Iterable[object]) -> None:
    for _ in results:
        pass
