"""Measures at start-up how the model runs best on this machine: runtime, batch sizes and concurrent batches.

A CPU gains little from larger batches and much from concurrent ones with fewer threads each, while a single image is
faster with every thread on it. So an idle server runs a latency session with all threads and a busy one concurrent
batches on a throughput session, where measuring shows that this pays. All concurrent batches share one session, so the
weights are in memory once.

A GPU computes one batch at a time and gains much from larger ones. Its concurrent batches are those in flight: one
computes while another is copied.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import numpy as np

from lookalike_server.domain.inference import BatchProfile, Pixels
from lookalike_server.domain.protocols import Session
from lookalike_server.inference.plan import Plan

LoadConcurrent = Callable[[int], Session]
"""Loads a session for so many concurrent batches, among which it divides the cores."""

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
_BUDGET_SECONDS = 2.0  # for all measuring; a slow model is measured in fewer rounds and with smaller batches
_ROUNDS = 6  # of measuring every candidate in turn
_SLOW_SECONDS = 0.15  # of a run beside which allocating its memory does not count


def measure_plan(
    loads: Sequence[LoadConcurrent],
    image: Pixels,
    *,
    cores: int,
    max_batch_size: int,
    max_concurrent_batches: int = 0,
    preferred_batch_size: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> Plan:
    """Load the model, measure the candidates, keep what pays, close the rest, and warm up every shape that will run.

    Args:
        loads: The runtimes to compare, at least one; a later one is chosen where it is faster than noise explains.
        image: Any model input: uint8 [height, width, 3].
        cores: Cores that the model may use.
        max_batch_size: The most images in a batch.
        max_concurrent_batches: Batches at once, or 0 to measure it, and whether a thread pays at all. A GPU's session
            says itself how many it has in flight.
        preferred_batch_size: The most images in a batch that is formed from the queue; 0 to measure it.
        clock: The time in seconds.

    Raises:
        Exception: What a run raised, after all sessions were closed.
    """
    with ExitStack() as loaded:
        plan = _measure(
            [partial(_load, load, loaded) for load in loads],
            image,
            cores=cores,
            max_batch_size=max_batch_size,
            max_concurrent_batches=max_concurrent_batches,
            preferred_batch_size=preferred_batch_size,
            clock=clock,
        )
        warm_up(plan, image)
        loaded.pop_all()
    return plan


def _load(load: LoadConcurrent, loaded: ExitStack, concurrency: int) -> Session:
    """Load a session that is closed with the stack."""
    session = load(concurrency)
    loaded.callback(session.close)
    return session


def _measure(
    loads: Sequence[LoadConcurrent],
    image: Pixels,
    *,
    cores: int,
    max_batch_size: int,
    max_concurrent_batches: int,
    preferred_batch_size: int,
    clock: Callable[[], float],
) -> Plan:
    limit = min(preferred_batch_size or max_batch_size, max_batch_size)
    sizes = sorted({2**power for power in range(limit.bit_length()) if 2**power < limit} | {limit})
    every = preferred_batch_size > 0
    until = clock() + _BUDGET_SECONDS
    with ExitStack() as stack:

        def candidate(latency: _Candidate | None, session: Session, concurrency: int) -> _Candidate:
            threads = stack.enter_context(ThreadPoolExecutor(concurrency))
            return _Candidate(latency, session, concurrency, image, threads, clock)

        candidates: list[_Candidate] = []
        alone: list[_Candidate] = []
        for load in loads:
            session = load(1)
            idle = candidate(None, session, 1)
            idle.explore(1)
            alone.append(idle)
            in_flight = session.in_flight
            if in_flight > 1 or max_concurrent_batches in (0, 1):
                candidates.append(idle if in_flight == 1 else candidate(idle, session, in_flight))
            may_gain = cores > 1 and session.gains_from_concurrency and idle.seconds[1] > _MIN_CONCURRENT_SECONDS
            if in_flight == 1 and (max_concurrent_batches > 1 or (max_concurrent_batches == 0 and may_gain)):
                concurrencies = _concurrencies(max_concurrent_batches, cores)
                candidates += [candidate(idle, load(concurrency), concurrency) for concurrency in concurrencies]
        _explore(candidates, sizes, every=every, clock=clock, until=until)
        _measure_in_turns(list(dict.fromkeys([*alone, *candidates])), clock, until)
    best, profiles = candidates[0], candidates[0].profiles(every=every)
    for each in candidates[1:]:
        other = each.profiles(every=every)
        needed = _TOLERABLE if each.latency is best.latency else _WORTHWHILE
        if each.throughput(other[-1].batch_size) > needed * best.throughput(profiles[-1].batch_size):
            best, profiles = each, other
    latency_session = best.latency.session
    for each in (*alone, *candidates):
        if each.session not in (latency_session, best.session):
            each.session.close()
    return Plan(
        latency_session=latency_session,
        throughput_session=best.session,
        max_concurrent_batches=best.concurrency,
        preferred_batch_size=profiles[-1].batch_size,
        profiles=profiles,
        idle=BatchProfile(1, best.latency.seconds[1], 1),
        inline=max_concurrent_batches == 0
        and latency_session.gains_from_concurrency
        and profiles[-1].seconds < _MAX_INLINE_SECONDS,
        slower=tuple(_results(candidates, best)),
    )


def warm_up(plan: Plan, image: Pixels) -> None:
    """Run every shape on the sessions that will run it, so that no caller waits for a first run."""
    sizes = (
        [profile.batch_size for profile in plan.profiles]
        if plan.throughput_session.fixed_shapes
        else list(range(1, plan.preferred_batch_size + 1))
    )
    # At once, because each stream of a session has its own first run of a shape.
    at_once = 1 if plan.serialized else plan.max_concurrent_batches
    with ThreadPoolExecutor(at_once) as threads:
        for size in sizes:
            batch = np.repeat(image[np.newaxis], size, axis=0)
            list(threads.map(plan.throughput_session.run, [batch] * at_once))
    plan.latency_session.run(image[np.newaxis])


class _Candidate:
    """A session with a concurrency, and the best seconds measured for each batch size.

    `latency` is the same runtime's candidate for a single image on an idle server, which may be this one.
    """

    def __init__(
        self,
        latency: _Candidate | None,
        session: Session,
        concurrency: int,
        image: Pixels,
        threads: ThreadPoolExecutor,
        clock: Callable[[], float],
    ) -> None:
        self.latency: _Candidate = latency or self
        self.session = session
        self.concurrency = concurrency
        self.seconds: dict[int, float] = {}
        self._image = image
        self._threads = threads
        self._clock = clock

    def explore(self, size: int) -> None:
        """Measure another size."""
        self.seconds[size] = math.inf
        self.measure(size)
        if self.seconds[size] < _SLOW_SECONDS:
            self.measure(size)  # again, because the first run of a shape allocates its memory

    def measure(self, size: int) -> None:
        """Run concurrent batches of this size; the fastest run counts, because other load can only slow it down."""
        batch = np.repeat(self._image[np.newaxis], size, axis=0)
        started = self._clock()
        list(self._threads.map(self.session.run, [batch] * self.concurrency))
        self.seconds[size] = min(self.seconds[size], self._clock() - started)

    def throughput(self, size: int) -> float:
        """Images per second; the hand-over is the event loop's work, so concurrency does not divide it."""
        return size / (self.seconds[size] / self.concurrency + _HANDOVER_SECONDS)

    @property
    def best(self) -> float:
        """The most images per second of any size."""
        return max(map(self.throughput, self.seconds))

    def profiles(self, *, every: bool) -> tuple[BatchProfile, ...]:
        """Return the sizes that pay, up to the first that does not."""
        kept: list[int] = []
        for size in self.seconds:
            if kept and not every and not self._pays(size, kept[-1]):
                break
            kept.append(size)
        return tuple(BatchProfile(size, self.seconds[size], self.concurrency) for size in kept)

    def still_pays(self) -> bool:
        """Whether the largest size so far pays, so that a larger one may."""
        sizes = list(self.seconds)
        return len(sizes) < 2 or self._pays(sizes[-1], sizes[-2])

    def _pays(self, size: int, smaller: int) -> bool:
        needed = _TOLERABLE if size <= _SMALL_BATCH else _WORTHWHILE
        return self.throughput(size) >= needed * self.throughput(smaller)


def _results(candidates: Sequence[_Candidate], best: _Candidate) -> Iterator[str]:
    """Say of each runtime but the best one's what it reached."""
    for latency in dict.fromkeys(each.latency for each in candidates if each.latency is not best.latency):
        other = max((each for each in candidates if each.latency is latency), key=lambda each: each.best)
        yield f"{_result(other)}, against {_result(best)}"


def _result(candidate: _Candidate) -> str:
    session = candidate.session
    return f"{candidate.best:.1f} images/s by {session.library} in {session.precision}"


def _concurrencies(chosen: int, cores: int) -> list[int]:
    """List the concurrencies to try: a batch a core, and where there are many cores a batch for each four."""
    return [chosen] if chosen else sorted({cores, cores // 4} - {0, 1})


def _explore(
    candidates: Sequence[_Candidate], sizes: Sequence[int], *, every: bool, clock: Callable[[], float], until: float
) -> None:
    """Try larger and larger batches until they pay no more, another candidate is clearly better, or time is up."""
    growing = list(candidates)
    for size in sizes:
        for each in (each for each in growing if size not in each.seconds):
            # Twice what its last size took: a run that would last longer than the budget is not begun.
            longest = max((2 * seconds for seconds in each.seconds.values()), default=0.0)
            if every or not each.seconds or clock() + longest < until:
                each.explore(size)
        best = max(each.best for each in candidates)
        if not every:
            growing = [each for each in growing if each.still_pays() and each.best >= _HOPELESS * best]


def _measure_in_turns(candidates: Sequence[_Candidate], clock: Callable[[], float], until: float) -> None:
    """Measure all candidates in several rounds, so that other load on the machine affects them alike."""
    for _ in range(_ROUNDS):
        if clock() > until:
            break
        for candidate in candidates:
            for size in candidate.seconds:
                candidate.measure(size)
