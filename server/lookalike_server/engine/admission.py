"""Admission: whether a call can be answered before its deadline, predicted over every resource that it needs.

Each resource has a queue that predicts how long the call would wait in it: decoding, the model, searching, reading,
writing. Stages overlap, so a call waits about as long as for the slowest of them, and then needs its own time in each.
The prediction is corrected by how late calls were lately (docs/adr/0010, docs/adr/0028).

Where calls must be rejected for a while, more of them are: only those stay that wait for a fraction of their time. No
more can be answered in either case, and so those that are answered are answered soon.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from lookalike_server.domain.calls import Call, Caller
from lookalike_server.domain.errors import LookalikeError, Rejection, deadline_exceeded, exhausted
from lookalike_server.engine.api import ArrivingCall, Work
from lookalike_server.inference.batcher import MicroBatcher
from lookalike_server.inference.latency_model import Lateness
from lookalike_server.scheduling.fair_order import Waiting
from lookalike_server.scheduling.fair_queue import FairQueue
from lookalike_server.scheduling.overload import Overload
from lookalike_server.search.coalescer import Coalescer

_LEARNING_RATE = 0.05
_MOSTLY = 0.98
_SAMPLE_EVERY = 16  # rejections of calls that are taken for calls with an image without having been read
_ARRIVAL_SECONDS = 0.1  # in which a request arrives that is being sent
_MAX_CALLERS = 10_000  # that are remembered


@dataclass(frozen=True, slots=True)
class Demand:
    """What a call needs.

    Attributes:
        embeds: Whether an image is embedded.
        bulk_images: Images that are embedded as bulk work.
        searches: Whether the index is searched.
        reads: Whether the store is read.
        writes: Operations that are written.
    """

    embeds: bool = False
    bulk_images: int = 0
    searches: bool = False
    reads: bool = False
    writes: int = 0


NOTHING = Demand()
IMAGE = Demand(embeds=True)
SEARCH = Demand(searches=True)

_LEAST_DEMAND = {
    Work.EMBED: IMAGE,
    Work.INFER: NOTHING,
    Work.SEARCH: SEARCH,
    Work.UPSERT: Demand(writes=1),
    Work.WRITE: Demand(writes=1),
    Work.READ: Demand(reads=True),
}
"""What calls need at least, as far as is known before they are read."""

_WITH_IMAGE = {Work.INFER: IMAGE, Work.SEARCH: Demand(embeds=True, searches=True)}
"""What calls need whose callers have lately sent nothing but images that are not bulk work."""


@dataclass(eq=False, slots=True)
class _Arriving:
    """A call that was admitted and is being read; among the others of `calls` until then."""

    caller: Caller
    deadline: float
    demand: Demand
    admitted: float
    calls: dict[_Arriving, None]

    def arrived(self) -> None:
        self.calls.pop(self, None)


class Admission:
    """Judges calls from their headers and again when they have been read. Lives on one event loop."""

    def __init__(
        self,
        *,
        decode: FairQueue,
        batcher: MicroBatcher,
        bulk: FairQueue,
        searches: Coalescer[Any, Any],
        reads: FairQueue,
        writes: FairQueue,
        hits_are_rare: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        """Take the queues of every resource.

        Args:
            decode: In front of the decoders.
            batcher: In front of the model.
            bulk: In front of both, for bulk images.
            searches: In front of the index.
            reads: In front of the store's reads.
            writes: In front of the store's writer.
            hits_are_rare: Whether hardly any image is in the cache, so that nearly all need the model.
            clock: The time in seconds, as deadlines count it.
        """
        self._decode = decode
        self._batcher = batcher
        self._bulk = bulk
        self._searches = searches
        self._reads = reads
        self._writes = writes
        self._hits_are_rare = hits_are_rare
        self._clock = clock
        self._arriving: dict[_Arriving, None] = {}
        self._lateness = Lateness()
        self._overloads = {name: Overload() for name in ("decode", "model", "bulk", "search", "read", "write")}
        self._decodes = 1.0  # the share of recent images that had to be decoded
        self._with_image: OrderedDict[tuple[Work, str], float] = OrderedDict()  # the share of a caller's calls
        self._unread = 0

    def admit(self, work: Work, call: Call) -> ArrivingCall:
        """Admit a call before it is read, and count it as arriving until it has been.

        Raises:
            LookalikeError: RESOURCE_EXHAUSTED or DEADLINE_EXCEEDED.
        """
        demand = self._expected(work, call)
        try:
            self.check(demand, call)
        except LookalikeError:
            # Now and then a guess is put to the test: the caller may have begun to send vectors.
            self._unread = (self._unread + 1) % _SAMPLE_EVERY
            if demand is not _WITH_IMAGE.get(work) or self._unread:
                raise
        arriving = _Arriving(call.caller, call.deadline, demand, self._clock(), self._arriving)
        self._arriving[arriving] = None
        return arriving

    def check(self, demand: Demand, call: Call) -> float:
        """Reject a call that could not be answered in time, or return in how many seconds it would be; 0 at once.

        Raises:
            LookalikeError: RESOURCE_EXHAUSTED with the time after which a retry makes sense; DEADLINE_EXCEEDED.
        """
        now = self._clock()
        left = call.deadline - now
        if left <= 0:
            raise deadline_exceeded()
        if demand is NOTHING:
            return 0.0
        name, wait = self._longest_wait(demand, call)
        if demand.embeds and self._batcher.is_full(call.caller):
            self._overloads["model"].record_rejection(now)
            raise self._batcher.full(wait)
        if wait <= 0:
            return 0.0  # what need not wait is always tried: there a rejection could only be a wrong prediction
        own = self._own_seconds(demand)
        predicted = wait + own
        overload = self._overloads[name]
        if self._lateness.correct(predicted) > left or wait > max(overload.share(now) * left, own):
            overload.record_rejection(now)
            raise exhausted(
                "the server is busy and would answer after the call's deadline; try again later or with a longer one",
                wait,
                Rejection.DEADLINE,
            )
        return predicted

    def completion_seconds(self, predicted: float) -> float:
        """Correct a call's predicted seconds by how late calls have been lately."""
        return self._lateness.correct(predicted)

    def record_completion(self, predicted: float, actual: float) -> None:
        """Learn from a call that was answered: its predicted and its actual seconds."""
        self._lateness.record(predicted, actual)

    def record_image(self, *, decodes: bool) -> None:
        """Learn whether images have to be decoded."""
        self._decodes += _LEARNING_RATE * (decodes - self._decodes)

    def record_kind(self, work: Work, call: Call, *, embeds: bool) -> None:
        """Learn whether a caller's calls of this kind need the model as interactive work."""
        key = (work, call.caller.name)
        share = self._with_image.get(key, 0.5)
        self._with_image[key] = share + _LEARNING_RATE * (embeds - share)
        if len(self._with_image) > _MAX_CALLERS:
            self._with_image.popitem(last=False)

    def _expected(self, work: Work, call: Call) -> Demand:
        demand = _LEAST_DEMAND[work]
        if work in _WITH_IMAGE and self._with_image.get((work, call.caller.name), 0.0) > _MOSTLY:
            demand = _WITH_IMAGE[work]
        if demand.embeds and not self._hits_are_rare():
            return SEARCH if demand.searches else NOTHING  # its embedding may be in the cache
        return demand

    def _longest_wait(self, demand: Demand, call: Call) -> tuple[str, float]:
        """Return for which resource the call would wait the longest, and how many seconds."""
        waits: list[tuple[float, str]] = []
        if demand.embeds:
            waits.append((self._model_wait(call), "model"))
            if self._decodes > 0.5:
                waits.append((self._decode.wait_seconds(call, self._with_images()), "decode"))
        elif demand.searches:
            arriving = [each for each in self._soon_here() if each.demand.searches and not each.demand.embeds]
            waits.append((self._searches.wait_seconds(call, arriving), "search"))
        if demand.bulk_images:
            waits.append((self._bulk.wait_seconds(call), "bulk"))
        if demand.reads:
            waits.append((self._reads.wait_seconds(call), "read"))
        if demand.writes:
            waits.append((self._writes.wait_seconds(call), "write"))
        wait, name = max(waits, default=(0.0, ""))
        return name, wait

    def _model_wait(self, call: Call) -> float:
        arriving: Collection[Waiting] = self._with_images()
        if not self._decode.is_idle:
            arriving = [*arriving, *self._decode.entries]
        return self._batcher.predict(call.deadline, call.caller, arriving)[0]

    def _with_images(self) -> Collection[Waiting]:
        return [each for each in self._soon_here() if each.demand.embeds] if self._arriving else ()

    def _soon_here(self) -> Iterator[_Arriving]:
        """Yield the calls that are being read, but for those that send nothing: they may never arrive."""
        since = self._clock() - _ARRIVAL_SECONDS
        return takewhile(lambda each: each.admitted >= since, reversed(self._arriving))

    def _own_seconds(self, demand: Demand) -> float:
        """Return how long the call takes by itself."""
        seconds = 0.0
        if demand.embeds:
            seconds += self._batcher.batch_seconds + self._decode.seconds
        if demand.bulk_images:
            seconds += demand.bulk_images * self._bulk.seconds / self._bulk.slots
        if demand.searches:
            seconds += self._searches.seconds
        if demand.reads:
            seconds += self._reads.seconds
        if demand.writes:
            seconds += self._writes.seconds
        return seconds
