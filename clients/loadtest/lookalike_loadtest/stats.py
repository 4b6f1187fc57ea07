"""Counts what becomes of calls: every call of the measurement once, and no call of the warm-up."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lookalike_loadtest.histogram import Histogram
from lookalike_loadtest.plan import NOT_SENT, OK, Kind, code_name
from lookalike_loadtest.response_stats import ResponseDetails
from lookalike_loadtest.worker_messages import Call, WorkerUpdate

_CALL = len(Call._fields)
_DETAILS = 1 + len(ResponseDetails._fields)
STAGES = ("decode", "queue", "inference", "search", "total")


@dataclass(frozen=True, slots=True)
class SecondStats:
    """One second of the measurement, counted from 0; those after its end hold the last answers.

    Attributes:
        number: Its number.
        due: Calls that were meant to be sent in it.
        answered: Calls of any second whose answer came in it.
        failed: Calls of any second that failed in it.
        p50_ms: Median latency of the answered calls that were meant to be sent in it; None where there are none.
        p99_ms: Their 99th percentile.
    """

    number: int
    due: int
    answered: int
    failed: int
    p50_ms: float | None
    p99_ms: float | None


@dataclass(slots=True)
class KindStats:
    """One kind of request: the latencies of its answers, and how many calls failed."""

    latency: Histogram = field(default_factory=Histogram)
    failed: int = 0


@dataclass(slots=True)
class CpuUse:
    """Seconds of processor time that a worker has used in so many seconds of a phase."""

    cpu: float
    wall: float

    @property
    def share(self) -> float:
        """Share of a core: 0 idle, 1 all of it."""
        return self.cpu / self.wall if self.wall > 0 else 0.0


class Stats:
    """The figures of one phase.

    Args:
        kinds: The kinds of the workload.
        limit_ms: `slow` counts the answers that took longer.
    """

    def __init__(self, kinds: Sequence[Kind], limit_ms: float | None = None) -> None:
        self.latency = Histogram()
        """Answered calls, from when they were meant to be sent."""
        self.service = Histogram()
        """The same calls, from when they were actually sent."""
        self.failures = Histogram()
        """All other calls that ended, from when they were meant to be sent."""
        self.lag = Histogram()
        """How late calls were sent, which is the load test's own doing."""
        self.kinds = {kind: KindStats() for kind in kinds}
        self.codes: Counter[int] = Counter()
        self.messages: dict[int, str] = {}
        self.slow = 0
        self.cpu: dict[int, CpuUse] = {}
        self.stages = {stage: Histogram() for stage in STAGES}
        self.batches: Counter[int] = Counter()
        self.details_read = 0
        self.images_read = 0
        self.cache_hits = 0
        self.empty_answers = 0
        self.warmup_calls = 0
        self._order = list(kinds)
        self._limit_ms = limit_ms
        self._due: Counter[int] = Counter()
        self._answered: Counter[int] = Counter()
        self._failed: Counter[int] = Counter()
        self._latencies: defaultdict[int, list[np.ndarray]] = defaultdict(list)

    @property
    def calls(self) -> int:
        """Calls that ended, however they did."""
        return self.codes.total()

    @property
    def answered(self) -> int:
        """Calls whose code was OK."""
        return self.codes[OK]

    @property
    def failed(self) -> int:
        """Calls that ended with another code."""
        return self.calls - self.answered

    @property
    def not_sent(self) -> int:
        """Failed calls that were never sent."""
        return self.codes[NOT_SENT]

    @property
    def failed_share(self) -> float:
        """Share of the calls that failed, 0 to 1."""
        return self.failed / self.calls if self.calls else 0.0

    def add(self, worker: int, update: WorkerUpdate) -> None:
        """Count what a worker reports."""
        self.cpu[worker] = CpuUse(update.cpu, update.wall)
        for code, message in update.messages.items():
            self.messages.setdefault(code, message)
        self._add_calls(np.frombuffer(update.calls, dtype=np.int64).reshape(-1, _CALL))
        self._add_details(np.frombuffer(update.details, dtype=np.int64).reshape(-1, _DETAILS))

    def _add_calls(self, rows: np.ndarray) -> None:
        measured = rows[rows[:, Call._fields.index("due")] >= 0]
        self.warmup_calls += len(rows) - len(measured)
        if not len(measured):
            return
        kind, code, due, latency, service, lag, _ = measured.T
        good, sent = code == OK, code != NOT_SENT
        self.codes.update(code.tolist())
        self.latency.add(latency[good])
        self.service.add(service[good])
        self.failures.add(latency[~good])
        self.lag.add(lag[sent])
        for place, name in enumerate(self._order):
            stats = self.kinds[name]
            stats.latency.add(latency[good & (kind == place)])
            stats.failed += int(np.count_nonzero(~good & (kind == place)))
        if self._limit_ms is not None:
            self.slow += int(np.count_nonzero(latency[good] > self._limit_ms * 1000))
        self._add_seconds(due, latency, good)

    def _add_seconds(self, due: np.ndarray, latency: np.ndarray, good: np.ndarray) -> None:
        meant, ended = due // 1_000_000, (due + latency) // 1_000_000
        self._due.update(meant.tolist())
        self._answered.update(ended[good].tolist())
        self._failed.update(ended[~good].tolist())
        for number in np.unique(meant[good]).tolist():
            # four bytes a call, so that an hour of a thousand calls a second is 14 MB
            self._latencies[number].append(latency[good & (meant == number)].astype(np.int32))

    def series(self) -> list[SecondStats]:
        """Return the measurement second by second."""
        last = max((*self._due, *self._answered, *self._failed), default=-1)
        return [self._second(number) for number in range(last + 1)]

    def answered_in(self, second: int) -> int:
        """Return how many answers came in this second."""
        return self._answered[second]

    def _second(self, number: int) -> SecondStats:
        p50 = p99 = None
        if number in self._latencies:
            together = np.concatenate(self._latencies[number])
            # the latency of an actual call: nothing is interpolated between two
            p50, p99 = (np.percentile(together, (50, 99), method="inverted_cdf") / 1000).tolist()
        return SecondStats(number, self._due[number], self._answered[number], self._failed[number], p50, p99)

    def _add_details(self, rows: np.ndarray) -> None:
        if not len(rows):
            return
        kind, rest = rows[:, 0], dict(zip(ResponseDetails._fields, rows[:, 1:].T, strict=True))
        self.details_read += len(rows)
        for stage, histogram in self.stages.items():
            # a stage of 0 did not take place
            histogram.add(rest[stage][rest[stage] > 0])
        ran = rest["batch_size"] > 0
        self.batches.update(rest["batch_size"][ran].tolist())
        image = np.isin(kind, [place for place, name in enumerate(self._order) if name.has_image])
        searched = np.isin(kind, [place for place, name in enumerate(self._order) if name.searches])
        self.images_read += int(np.count_nonzero(image))
        self.cache_hits += int(rest["cache_hit"][image].sum())
        self.empty_answers += int(np.count_nonzero(rest["entries"][searched] == 0))

    def code_counts(self) -> dict[str, int]:
        """Return how many calls had each code, by its name, most frequent first."""
        return {code_name(code): count for code, count in self.codes.most_common()}
