"""How many entries wait in a queue, and since when: for who looks at it from outside, in any thread."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol


class Arrived(Protocol):
    """What waits in a queue."""

    @property
    def arrived(self) -> float:
        """When it came, in seconds of the queue's clock."""


@dataclass(frozen=True, slots=True)
class QueueLength:
    """A queue at a moment.

    Attributes:
        depth: What waits.
        oldest_seconds: For how long the first of it has; 0 where nothing waits.
    """

    depth: int
    oldest_seconds: float

    @classmethod
    def of(cls, waiting: Collection[Arrived], now: float) -> QueueLength:
        """Look at what waits, oldest first."""
        entries = list(waiting)  # copied in one step, because the event loop's thread may change it
        return cls(len(entries), max(0.0, now - entries[0].arrived) if entries else 0.0)
