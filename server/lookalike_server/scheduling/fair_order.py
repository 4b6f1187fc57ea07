"""Who goes first where several callers wait: by turns between callers, by deadline among the calls of one.

Turns are weighted: of callers with weights 2 and 1, the first has two entries served for each of the second. So a
caller's entry waits for its fair share of the others' entries only, however many they have, and a single caller's are
served by deadline, which meets all deadlines if any order does. This is start-time fair queueing (Goyal, Vin, Cheng
1996), in which every entry costs the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from operator import attrgetter
from typing import Protocol, TypeVar

from lookalike_server.domain.calls import Caller

_MAX_CALLERS = 1000  # whose turns are remembered


class Waiting(Protocol):
    """What the order depends on."""

    @property
    def deadline(self) -> float:
        """When its result becomes useless; infinite for never."""

    @property
    def caller(self) -> Caller:
        """Who waits for it."""


E = TypeVar("E", bound=Waiting)

_NOTHING: Mapping[str, float] = {}
_DEADLINE = attrgetter("deadline")


class Turns:
    """Which turns callers have had."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}  # when each caller's next turn begins, in virtual time
        self._now = 0.0  # virtual time: when the last turn began

    def take(self, entries: Collection[Waiting]) -> None:
        """Let these entries have their turns."""
        if len(self._next) == 1 and all(entry.caller.name in self._next for entry in entries):
            return  # a caller that is alone is not ahead of anybody
        for entry in entries:
            name = entry.caller.name
            start = max(self._now, self._next.get(name, 0.0))
            self._next[name] = start + 1.0 / entry.caller.weight
            self._now = start
        if len(self._next) > _MAX_CALLERS:
            self._next.clear()  # everybody begins again

    def ahead(self) -> Mapping[str, float]:
        """Return how far each caller is ahead of the others: in virtual time, in which a turn takes 1 / weight."""
        return {name: start - self._now for name, start in self._next.items() if start > self._now}


def fair_order(entries: Collection[E], ahead: Mapping[str, float] = _NOTHING) -> list[E]:
    """Return entries in the order in which they are to be served; equals keep theirs.

    Args:
        entries: What waits, oldest first.
        ahead: How far callers are ahead of the others, by name, as `Turns.ahead` returns it.
    """
    by_deadline = sorted(entries, key=_DEADLINE)
    if len({entry.caller.name for entry in by_deadline}) < 2:
        return by_deadline
    turns: Counter[str] = Counter()
    ranked: list[tuple[float, float, int, E]] = []
    for position, entry in enumerate(by_deadline):
        name = entry.caller.name
        rank = ahead.get(name, 0.0) + turns[name] / entry.caller.weight
        turns[name] += 1
        ranked.append((rank, entry.deadline, position, entry))
    ranked.sort(key=lambda ranked_entry: ranked_entry[:3])
    return [entry for _, _, _, entry in ranked]


def count_ahead(
    caller: Caller, deadline: float, entries: Iterable[Waiting], ahead: Mapping[str, float] = _NOTHING
) -> float:
    """Count the entries that are served before one of this caller with this deadline, if none arrives meanwhile.

    Args:
        caller: Whose entry it is.
        deadline: The entry's deadline.
        entries: What waits, in any order.
        ahead: How far callers are ahead of the others, by name, as `Turns.ahead` returns it.
    """
    waiting = list(entries)
    # Comprehensions, because every call comes here; and identity first, which nearly always decides.
    others = [each.caller for each in waiting if each.caller is not caller and each.caller.name != caller.name]
    if not others:
        return sum([each.deadline <= deadline for each in waiting])
    own = sum(each.deadline <= deadline for each in waiting if each.caller.name == caller.name)
    rank = ahead.get(caller.name, 0.0) + own / caller.weight
    return own + sum(
        min(count, max(0.0, (rank - ahead.get(other.name, 0.0)) * other.weight + 1.0))
        for other, count in Counter(others).items()
    )
