"""The order in which callers are served, and predictions of it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from lookalike_server.domain.calls import Caller
from lookalike_server.scheduling.fair_order import Turns, count_ahead, fair_order

CALLERS = (Caller("a"), Caller("b"), Caller("c", weight=2.0))


@dataclass(frozen=True)
class Entry:
    """What waits."""

    name: int
    caller: Caller
    deadline: float = math.inf


entries_strategy = st.lists(st.tuples(st.sampled_from(CALLERS), st.integers(0, 20)), max_size=40).map(
    lambda rows: [Entry(i, caller, deadline) for i, (caller, deadline) in enumerate(rows)]
)
ahead_strategy = st.dictionaries(st.sampled_from([caller.name for caller in CALLERS]), st.integers(0, 5))


@given(entries_strategy, ahead_strategy)
def test_everybody_is_served_by_turns(entries: list[Entry], ahead: dict[str, int]) -> None:
    """Each entry is there once, a caller's own by deadline, and nobody gets ahead of its share while others wait."""
    order = fair_order(entries, ahead)
    assert sorted(order, key=lambda entry: entry.name) == entries
    for caller in CALLERS:
        own = [entry for entry in order if entry.caller is caller]
        assert own == sorted(own, key=lambda entry: entry.deadline)
    taken: Counter[str] = Counter()
    remaining = Counter(entry.caller.name for entry in order)
    for entry in order:
        remaining[entry.caller.name] -= 1
        rank = ahead.get(entry.caller.name, 0) + taken[entry.caller.name] / entry.caller.weight
        for other in CALLERS:
            if remaining[other.name]:
                assert ahead.get(other.name, 0) + taken[other.name] / other.weight >= rank or other is entry.caller
        taken[entry.caller.name] += 1


@given(entries_strategy, st.sampled_from(CALLERS), st.integers(0, 20), ahead_strategy)
def test_the_prediction_is_the_order(
    entries: list[Entry], caller: Caller, deadline: int, ahead: dict[str, int]
) -> None:
    """What is predicted to be ahead of an entry is what the order puts there, but for equals and parts of a turn."""
    mine = Entry(1000, caller, deadline)
    position = fair_order([*entries, mine], ahead).index(mine)
    assert abs(count_ahead(caller, deadline, entries, ahead) - position) <= len(CALLERS)


def test_a_single_caller_is_served_by_deadline() -> None:
    """With nobody to take turns with, the earliest deadline is first, and equals keep their order."""
    caller = CALLERS[0]
    entries = [Entry(0, caller, 3), Entry(1, caller, 1), Entry(2, caller, 3), Entry(3, caller, 2)]
    assert [entry.name for entry in fair_order(entries)] == [1, 3, 0, 2]
    assert count_ahead(caller, 3, entries) == 4
    assert count_ahead(caller, 1, entries) == 1
    assert count_ahead(CALLERS[1], 0, entries) == 1  # another caller waits for its turn, not for their deadlines


def test_turns_are_remembered() -> None:
    """One entry at a time, callers alternate by their weights, and one that comes late has no turns to make up for."""
    turns = Turns()
    waiting = [Entry(i, caller, i) for i, caller in enumerate(2 * 20 * [CALLERS[0]] + 20 * [CALLERS[2]])]
    served: list[Entry] = []

    def serve(count: int) -> Counter[str]:
        for _ in range(count):
            first = fair_order(waiting, turns.ahead())[0]
            turns.take([first])
            waiting.remove(first)
            served.append(first)
        return Counter(entry.caller.name for entry in served[-count:])

    assert serve(15) == {"a": 5, "c": 10}
    waiting.extend(Entry(100 + i, CALLERS[1], 1000) for i in range(10))
    assert serve(8) == {"a": 2, "b": 2, "c": 4}


def test_turns_of_many_callers_are_forgotten() -> None:
    """However many callers come, only some are remembered."""
    turns = Turns()
    for number in range(10_000):
        turns.take([Entry(number, Caller(f"caller{number}"))])
    assert len(turns.ahead()) <= 1001
