"""What leaves the queues when a lane is free, and what costs are expected: the decisions, without a batcher."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike_server.domain.inference import BatchProfile
from lookalike_server.inference.autotune import Plan
from lookalike_server.inference.latency_model import LatencyModel
from lookalike_server.inference.scheduling import take_batch
from support.fakes import MeanColorSession


@dataclass(frozen=True)
class Entry:
    """What `take_batch` looks at."""

    name: int
    deadline: float = math.inf
    arrived: float = 0.0
    given_up: bool = False


entries = st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10), st.booleans())).map(
    lambda rows: [Entry(i, deadline, arrived, gone) for i, (deadline, arrived, gone) in enumerate(rows)]
)


@given(entries, entries, st.integers(0, 10), st.integers(1, 8), st.integers(1, 8), st.integers(0, 10))
def test_take_batch(
    interactive: list[Entry], bulk: list[Entry], now: int, limit: int, fill_to: int, bulk_wait: int
) -> None:
    """Overdue bulk first, then interactive by deadline, then bulk into what is left; the dead leave, nobody twice."""
    bulk = sorted((replace(entry, name=-1 - entry.name) for entry in bulk), key=lambda entry: entry.arrived)
    fill_to = min(fill_to, limit)
    taken = take_batch(interactive, bulk, now, limit=limit, fill_to=fill_to, bulk_wait=bulk_wait)
    everybody = [*interactive, *bulk]
    assert list(taken.cancelled) == [entry for entry in everybody if entry.given_up]
    assert list(taken.expired) == [entry for entry in everybody if not entry.given_up and entry.deadline <= now]
    live = [entry for entry in interactive if not entry.given_up and entry.deadline > now]
    live_bulk = [entry for entry in bulk if not entry.given_up and entry.deadline > now]
    overdue = [entry for entry in live_bulk if now - entry.arrived >= bulk_wait][:limit]
    urgent = sorted(live, key=lambda entry: entry.deadline)[: limit - len(overdue)]
    names = [entry.name for entry in taken.batch]
    assert names[: len(overdue) + len(urgent)] == [entry.name for entry in (*overdue, *urgent)]
    filling = list(taken.batch)[len(overdue) + len(urgent) :]
    assert all(entry in live_bulk for entry in filling)
    assert len(set(names)) == len(names) <= limit
    if filling and urgent:
        assert len(names) <= fill_to
    if not urgent:
        assert len(names) == min(limit, len(live_bulk))


def test_costs_are_learned() -> None:
    """What batches really take moves the prediction: after slow runs a deadline is rejected that was fine before."""
    plan = Plan(
        MeanColorSession(),
        MeanColorSession(),
        1,
        4,
        (BatchProfile(1, 0.01), BatchProfile(4, 0.04)),
        BatchProfile(1, 0.01),
    )
    costs = LatencyModel(plan)
    assert costs.batch(2) == pytest.approx(0.02)
    assert costs.queue(8) == pytest.approx(0.08)
    for _ in range(50):
        costs.learn(2, 0.04)
    assert costs.batch(2) == pytest.approx(0.04, rel=0.01)
    assert costs.queue(8) == pytest.approx(0.16, rel=0.01)


def test_lateness_is_learned_quickly_and_forgotten_slowly() -> None:
    """Images that come later than predicted make later predictions longer; a few early ones do not undo it."""
    session = MeanColorSession()
    costs = LatencyModel(Plan(session, session, 1, 1, (BatchProfile(1, 0.1),), BatchProfile(1, 0.1)))
    assert costs.finish(1.0) == 1.0
    for _ in range(20):
        costs.kept(0.5, 0.75)
    late = costs.finish(1.0)
    assert 1.25 < late <= 1.5
    for _ in range(20):
        costs.kept(0.5, 0.5)
    assert 1.15 < costs.finish(1.0) < late
    for _ in range(1000):
        costs.kept(0.5, 0.4)
    assert costs.finish(1.0) == 1.0
    costs.kept(0.001, 1.0)
    assert costs.finish(1.0) == 1.0
