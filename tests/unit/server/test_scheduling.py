"""Which images form the next batch, and how long it is predicted to take: the decisions, without a batcher."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike_server.domain.calls import ANYBODY, Caller
from lookalike_server.domain.inference import BatchProfile
from lookalike_server.inference.latency_model import LatencyModel
from lookalike_server.inference.plan import Plan
from lookalike_server.inference.scheduling import take_batch
from support.fakes import MeanColorSession


@dataclass(frozen=True)
class Entry:
    """What `take_batch` reads."""

    name: int
    deadline: float = math.inf
    arrived: float = 0.0
    abandoned: bool = False
    caller: Caller = ANYBODY


entries = st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10), st.booleans())).map(
    lambda rows: [Entry(i, deadline, arrived, gone) for i, (deadline, arrived, gone) in enumerate(rows)]
)


@given(entries, entries, st.integers(0, 10), st.integers(1, 8), st.integers(1, 8), st.integers(0, 10))
def test_take_batch(
    interactive: list[Entry], bulk: list[Entry], now: int, limit: int, fill_to: int, bulk_wait: int
) -> None:
    """Overdue bulk, then interactive ones by deadline, then bulk to fill up; dead ones leave, none runs twice."""
    bulk = sorted((replace(entry, name=-1 - entry.name) for entry in bulk), key=lambda entry: entry.arrived)
    fill_to = min(fill_to, limit)
    scheduled = take_batch(interactive, bulk, now, limit=limit, fill_to=fill_to, bulk_wait=bulk_wait)
    entries_of_both = [*interactive, *bulk]
    assert list(scheduled.cancelled) == [entry for entry in entries_of_both if entry.abandoned]
    assert list(scheduled.expired) == [
        entry for entry in entries_of_both if not entry.abandoned and entry.deadline <= now
    ]
    live = [entry for entry in interactive if not entry.abandoned and entry.deadline > now]
    live_bulk = [entry for entry in bulk if not entry.abandoned and entry.deadline > now]
    waited = [entry for entry in live_bulk if now - entry.arrived >= bulk_wait]
    overdue = sorted(waited, key=lambda entry: entry.deadline)[:limit]
    urgent = sorted(live, key=lambda entry: entry.deadline)[: limit - len(overdue)]
    names = [entry.name for entry in scheduled.batch]
    assert names[: len(overdue) + len(urgent)] == [entry.name for entry in (*overdue, *urgent)]
    filling = list(scheduled.batch)[len(overdue) + len(urgent) :]
    assert all(entry in live_bulk for entry in filling)
    assert len(set(names)) == len(names) <= limit
    if filling and urgent:
        assert len(names) <= fill_to
    if not urgent:
        assert len(names) == min(limit, len(live_bulk))


def test_callers_take_turns_in_a_batch() -> None:
    """A caller with one image is in the next batch, however many another has queued before; more weight, more turns."""
    greedy, quiet, heavy = Caller("greedy"), Caller("quiet"), Caller("heavy", weight=2.0)
    crowd = [Entry(i, deadline=i, caller=greedy) for i in range(100)]
    late = [Entry(200, caller=quiet), *(Entry(300 + i, caller=heavy) for i in range(5))]
    scheduled = take_batch([*crowd, *late], [], -1, limit=4, fill_to=4, bulk_wait=math.inf)
    assert Counter(entry.caller.name for entry in scheduled.batch) == {"heavy": 2, "greedy": 1, "quiet": 1}
    scheduled = take_batch([*crowd, *late], [], -1, limit=4, fill_to=4, bulk_wait=math.inf, ahead={"greedy": 4.0})
    assert Counter(entry.caller.name for entry in scheduled.batch) == {"heavy": 3, "quiet": 1}
    scheduled = take_batch([], [*crowd, *late], 1, limit=4, fill_to=4, bulk_wait=0)
    assert Counter(entry.caller.name for entry in scheduled.batch) == {"heavy": 2, "greedy": 1, "quiet": 1}


def test_batch_times_are_learned() -> None:
    """Predictions follow how long batches really take."""
    plan = Plan(
        MeanColorSession(),
        MeanColorSession(),
        1,
        4,
        (BatchProfile(1, 0.01), BatchProfile(4, 0.04)),
        BatchProfile(1, 0.01),
    )
    latency = LatencyModel(plan)
    assert latency.batch_seconds(2) == pytest.approx(0.02)
    assert latency.queue_seconds(8) == pytest.approx(0.08)
    for _ in range(50):
        latency.record_batch(2, 0.04)
    assert latency.batch_seconds(2) == pytest.approx(0.04, rel=0.01)
    assert latency.queue_seconds(8) == pytest.approx(0.16, rel=0.01)


def test_lateness_is_learned_quickly_and_forgotten_slowly() -> None:
    """Images that are later than predicted make predictions longer; a few early ones do not undo that."""
    session = MeanColorSession()
    latency = LatencyModel(Plan(session, session, 1, 1, (BatchProfile(1, 0.1),), BatchProfile(1, 0.1)))
    assert latency.completion_seconds(1.0) == 1.0
    for _ in range(20):
        latency.record_completion(0.5, 0.75)
    late = latency.completion_seconds(1.0)
    assert 1.25 < late <= 1.5
    for _ in range(20):
        latency.record_completion(0.5, 0.5)
    assert 1.15 < latency.completion_seconds(1.0) < late
    for _ in range(1000):
        latency.record_completion(0.5, 0.4)
    assert latency.completion_seconds(1.0) == 1.0
    latency.record_completion(0.001, 1.0)
    assert latency.completion_seconds(1.0) == 1.0
