"""Measures at start-up how the model runs best on this machine: batch sizes and, on CPUs, concurrent batches.

A CPU gains little from larger batches and much from concurrent ones with one thread each, while a single image is
faster with every thread on it. So an idle server runs a latency session with all threads and a busy one concurrent
batches on a throughput session, where measuring shows that this pays. All concurrent batches share one session (ONNX
Runtime allows it), so the weights are in memory once.

A GPU computes one batch at a time and gains much from larger ones. Its concurrent batches are those in flight: one
computes while another is copied.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from lookalike_server.domain.inference import BatchProfile, Pixels
from lookalike_server.domain.protocols import Session

_WORTHWHILE = 1.05  # ratio of throughputs from which a larger batch is chosen; less is noise

_TOLERABLE, _SMALL_BATCH = 0.93, 4
"""Concurrent batches, and batches up to four, are chosen from this ratio of throughputs on.

Beside gRPC they gain more than on the quiet machine where they are measured: a run with all threads waits for the one
that was interrupted, and every hand-over evicts the caches of the threads that run the model. Int8 ResNet50, 16
callers, two cores: concurrent batches of four served 7 % more than the same batches run one at a time and than
concurrent single images, where the quiet machine saw no difference.
"""

_HOPELESS = 0.85  # of the best throughput so far; below, larger batches are not even tried
_HANDOVER_SECONDS = 3e-4  # what a batch of one costs beside the model, measured with a null model
_MIN_CONCURRENT_SECONDS = 1e-3  # of a single run; below, handing over is most of the work, and one loop does it all
_MAX_INLINE_SECONDS = 3e-4  # of the largest batch; about what waking a thread and its reply cost the event loop
_ROUNDS, _ROUNDS_SECONDS = 6, 3.0  # of measuring every candidate in turn; a slow model has fewer rounds


@dataclass(frozen=True, slots=True)
class Plan:
    """How batches are run.

    Attributes:
        latency_session: Runs a single image on an idle server.
        throughput_session: Runs batches on a busy one; may be `latency_session` itself.
        max_concurrent_batches: Batches that run at once.
        preferred_batch_size: The most images in a batch.
        profiles: The batch sizes of `throughput_session`, smallest first, with their latencies at that concurrency.
        idle: A single image on `latency_session`, with nothing beside it.
        inline: Whether the event loop runs the model itself, because handing a batch to a thread takes longer.
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
        """Every batch size and concurrency that runs."""
        return (
            self.profiles
            if self.latency_session is self.throughput_session and self.max_concurrent_batches == 1
            else (self.idle, *self.profiles)
        )

    @property
    def serialized(self) -> bool:
        """Whether batches compute one after the other and only their copies overlap, as on a GPU."""
        return self.throughput_session.in_flight > 1

    @property
    def prefetch(self) -> int:
        """Batches queued for the threads while all of them are busy, so that no thread waits for the event loop."""
        return 1 if self.max_concurrent_batches > 1 and not self.serialized else 0

    def padded(self, size: int) -> int:
        """Pad a batch size to the next profile where the session has fixed shapes; elsewhere it stays as it is."""
        if not self.throughput_session.fixed_shapes:
            return size
        return next(profile.batch_size for profile in self.profiles if profile.batch_size >= size)

    def close(self) -> None:
        """Close the sessions; nothing may run afterwards."""
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
    """Load the model, measure the candidates, keep what pays, and warm up every shape that will run.

    Args:
        load: Loads a session with this many threads per run; 0 for every core.
        image: Any model input: uint8 [height, width, 3].
        cores: Cores of this machine.
        max_batch_size: The most images in a batch.
        max_concurrent_batches: Batches at once, or 0 to measure it, and whether a thread pays at all. A GPU's session
            says itself how many it has in flight.
        preferred_batch_size: The most images in a batch that is formed from the queue; 0 to measure it.
        clock: The time in seconds.
    """
    limit = min(preferred_batch_size or max_batch_size, max_batch_size)
    sizes = sorted({2**power for power in range(limit.bit_length()) if 2**power < limit} | {limit})
    every = preferred_batch_size > 0
    latency_session = load(0)
    with ExitStack() as stack:

        def candidate(session: Session, concurrency: int) -> _Candidate:
            threads = stack.enter_context(ThreadPoolExecutor(concurrency))
            return _Candidate(session, concurrency, image, threads, clock)

        idle = candidate(latency_session, 1)
        idle.explore([1], every=True)
        in_flight, concurrent = latency_session.in_flight, latency_session.gains_from_concurrency
        candidates: list[_Candidate] = []
        if in_flight > 1 or max_concurrent_batches in (0, 1):
            candidates.append(candidate(latency_session, in_flight))
        may_gain = cores > 1 and concurrent and idle.seconds[1] > _MIN_CONCURRENT_SECONDS
        if in_flight == 1 and (max_concurrent_batches > 1 or (max_concurrent_batches == 0 and may_gain)):
            candidates.append(candidate(load(1), max_concurrent_batches or cores))
        for each in candidates:
            each.explore(sizes, every=every)
        _measure_in_turns([idle, *candidates], clock)
    best, profiles = candidates[0], candidates[0].profiles(every=every)
    for each in candidates[1:]:
        other = each.profiles(every=every)
        if each.throughput(other[-1].batch_size) > _TOLERABLE * best.throughput(profiles[-1].batch_size):
            best, profiles = each, other
    plan = Plan(
        latency_session=latency_session,
        throughput_session=best.session,
        max_concurrent_batches=best.concurrency,
        preferred_batch_size=profiles[-1].batch_size,
        profiles=profiles,
        idle=BatchProfile(1, idle.seconds[1], 1),
        inline=max_concurrent_batches == 0 and concurrent and profiles[-1].seconds < _MAX_INLINE_SECONDS,
    )
    _warm_up(plan, image)
    return plan


def lower_priority(nice: int) -> None:
    """Raise the nice value of the calling thread and those that it starts, so that calls are still received promptly.

    Only on Linux, which has a nice value per thread; elsewhere it belongs to the process and is left alone.
    """
    if nice and hasattr(os, "sched_getaffinity"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


class _Candidate:
    """A session with a concurrency, and the best seconds measured for each batch size."""

    def __init__(
        self,
        session: Session,
        concurrency: int,
        image: Pixels,
        threads: ThreadPoolExecutor,
        clock: Callable[[], float],
    ) -> None:
        self.session = session
        self.concurrency = concurrency
        self.seconds: dict[int, float] = {}
        self._image = image
        self._threads = threads
        self._clock = clock

    def explore(self, sizes: Sequence[int], *, every: bool) -> None:
        """Try larger and larger batches until they are clearly worse or very slow; with `every`, all of them."""
        for size in sizes:
            self.seconds[size] = math.inf
            self.measure(size)
            self.measure(size)  # again, because the first run of a shape allocates its memory
            if not every and self.throughput(size) < _HOPELESS * max(map(self.throughput, self.seconds)):
                del self.seconds[size]
                break
            if not every and 2 * self.seconds[size] > _ROUNDS_SECONDS:
                break

    def measure(self, size: int) -> None:
        """Run concurrent batches of this size; the fastest run counts, because other load can only slow it down."""
        batch = np.repeat(self._image[np.newaxis], size, axis=0)
        started = self._clock()
        list(self._threads.map(self.session.run, [batch] * self.concurrency))
        self.seconds[size] = min(self.seconds[size], self._clock() - started)

    def throughput(self, size: int) -> float:
        """Images per second; the hand-over is the event loop's work, so concurrency does not divide it."""
        return size / (self.seconds[size] / self.concurrency + _HANDOVER_SECONDS)

    def profiles(self, *, every: bool) -> tuple[BatchProfile, ...]:
        """Return the sizes that pay, up to the first that does not."""
        kept: list[int] = []
        for size in self.seconds:
            needed = _TOLERABLE if size <= _SMALL_BATCH else _WORTHWHILE
            if kept and not every and self.throughput(size) < needed * self.throughput(kept[-1]):
                break
            kept.append(size)
        return tuple(BatchProfile(size, self.seconds[size], self.concurrency) for size in kept)


def _measure_in_turns(candidates: Sequence[_Candidate], clock: Callable[[], float]) -> None:
    """Measure all candidates in several rounds, so that other load on the machine affects them alike."""
    until = clock() + _ROUNDS_SECONDS
    for _ in range(_ROUNDS):
        for candidate in candidates:
            for size in candidate.seconds:
                candidate.measure(size)
        if clock() > until:
            break


def _warm_up(plan: Plan, image: Pixels) -> None:
    """Run every shape once on the session that will run it, so that no caller waits for a first run."""
    sizes = (
        [profile.batch_size for profile in plan.profiles]
        if plan.throughput_session.fixed_shapes
        else list(range(1, plan.preferred_batch_size + 1))
    )
    for size in sizes:
        plan.throughput_session.run(np.repeat(image[np.newaxis], size, axis=0))
    plan.latency_session.run(image[np.newaxis])
