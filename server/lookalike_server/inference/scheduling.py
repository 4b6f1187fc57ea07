"""What leaves the queues when a lane of the model is free: a decision, pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from operator import attrgetter
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """What `take_batch` asks of an entry."""

    @property
    def deadline(self) -> float:
        """The moment after which its answer is of no use; infinite for none."""

    @property
    def arrived(self) -> float:
        """The moment it came."""

    @property
    def given_up(self) -> bool:
        """Whether its caller is gone."""


E = TypeVar("E", bound=Waiting)


@dataclass(frozen=True, slots=True)
class ScheduledBatch(Generic[E]):
    """A decision: what runs now, and what leaves unrun because its time or its caller is gone."""

    batch: Sequence[E]
    expired: Sequence[E]
    cancelled: Sequence[E]


def take_batch(
    interactive: Collection[E], bulk: Collection[E], now: float, *, limit: int, fill_to: int, bulk_wait: float
) -> ScheduledBatch[E]:
    """Decide what runs now and what leaves without.

    Bulk entries that have waited too long go first, so that they cannot starve; then interactive ones, earliest
    deadline first and, among equals, as they came; then bulk ones, into what is left.

    Args:
        interactive: Entries whose callers wait, oldest first.
        bulk: Entries of streams and imports, oldest first.
        now: This moment, as deadlines and arrivals are told.
        limit: The most entries in the batch.
        fill_to: Up to which size bulk entries may join interactive ones: the slots that padding would waste.
        bulk_wait: Seconds after which a bulk entry counts as having waited too long.
    """
    cancelled = [entry for queue in (interactive, bulk) for entry in queue if entry.given_up]
    expired = [
        entry for queue in (interactive, bulk) for entry in queue if not entry.given_up and entry.deadline <= now
    ]
    live_bulk = [entry for entry in bulk if not entry.given_up and entry.deadline > now]
    overdue = [entry for entry in live_bulk if now - entry.arrived >= bulk_wait][:limit]
    urgent = nsmallest(
        limit - len(overdue),
        (entry for entry in interactive if not entry.given_up and entry.deadline > now),
        key=attrgetter("deadline"),
    )
    room = (fill_to if urgent else limit) - len(overdue) - len(urgent)
    filling = live_bulk[len(overdue) : len(overdue) + max(0, room)]
    return ScheduledBatch([*overdue, *urgent, *filling], expired, cancelled)
