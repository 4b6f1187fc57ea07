"""Which waiting images form the next batch: a pure decision."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from lookalike_server.scheduling.fair_order import Waiting, fair_order


class QueueEntry(Waiting, Protocol):
    """What `take_batch` reads of an image in the queue. Times are those of the batcher's clock, in seconds."""

    @property
    def arrived(self) -> float:
        """When it arrived."""

    @property
    def abandoned(self) -> bool:
        """Whether its caller has gone."""


E = TypeVar("E", bound=QueueEntry)

_NOTHING: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True)
class ScheduledBatch(Generic[E]):
    """The entries that run now, and those that leave the queue without running."""

    batch: Sequence[E]
    expired: Sequence[E]
    cancelled: Sequence[E]


def take_batch(
    interactive: Collection[E],
    bulk: Collection[E],
    now: float,
    *,
    limit: int,
    fill_to: int,
    bulk_wait: float,
    ahead: Mapping[str, float] = _NOTHING,
) -> ScheduledBatch[E]:
    """Decide which entries run now and which leave without running.

    Bulk entries that have waited too long go first, so that they cannot starve; then interactive ones; then bulk ones,
    into the room that is left. Among each of these callers take turns (`fair_order`), and a caller's own entries go
    earliest deadline first and, among equals, in order of arrival.

    Args:
        interactive: Entries of single calls, oldest first.
        bulk: Entries of streams and imports, oldest first.
        now: The current time.
        limit: The most entries in the batch.
        fill_to: The batch size up to which bulk entries may join interactive ones: rows that padding would waste.
        bulk_wait: Seconds after which a bulk entry has waited too long.
        ahead: How far callers are ahead of the others, by name (`Turns.ahead`).
    """
    cancelled: list[E] = []
    expired: list[E] = []
    live_interactive: list[E] = []
    live_bulk: list[E] = []
    for queue, live in ((interactive, live_interactive), (bulk, live_bulk)):
        for entry in queue:
            if entry.abandoned:
                cancelled.append(entry)
            elif entry.deadline <= now:
                expired.append(entry)
            else:
                live.append(entry)
    overdue = fair_order([entry for entry in live_bulk if now - entry.arrived >= bulk_wait], ahead)[:limit]
    urgent = fair_order(live_interactive, ahead)[: limit - len(overdue)]
    room = (fill_to if urgent else limit) - len(overdue) - len(urgent)
    filling: list[E] = []
    if room > 0 and len(live_bulk) > len(overdue):
        taken = set(map(id, overdue))
        filling = fair_order([entry for entry in live_bulk if id(entry) not in taken], ahead)[:room]
    return ScheduledBatch([*overdue, *urgent, *filling], expired, cancelled)
