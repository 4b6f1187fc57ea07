"""When the work on graphs waits, and for what."""

from __future__ import annotations

import threading

from lookalike_server.index.pacing import Pacing


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now


def test_many_writes_come_first() -> None:
    """While rows arrive fast and nobody searches, a piece is small and of one thread; soon after the last it is not."""
    clock = Clock()
    pacing = Pacing(2, clock)
    quiet = pacing.next_piece()
    for _ in range(10):
        pacing.record_writes(64)
        assert pacing.writes_come_first
        clock.now += 0.02
    assert pacing.next_piece() == (quiet[0] // 64, 1)
    clock.now += 0.2
    assert not pacing.writes_come_first
    assert pacing.next_piece() == quiet


def test_pieces_are_large_where_nobody_searches() -> None:
    """A piece is largest ten seconds after a search, and smallest beside one."""
    clock = Clock()
    pacing = Pacing(2, clock)
    with pacing:
        beside = pacing.next_piece()
    clock.now += 0.2
    between = pacing.next_piece()
    clock.now += 9.7
    assert pacing.next_piece() == between
    clock.now += 0.2
    idle = pacing.next_piece()
    assert (beside[1], between[1], idle[1]) == (1, 2, 2)
    assert beside[0] < between[0] < idle[0]


def test_few_writes_do_not() -> None:
    """Ten rows a second leave nearly all of the time to graphs, however long they go on."""
    clock = Clock()
    pacing = Pacing(2, clock)
    for _ in range(100):
        pacing.record_writes(1)
        clock.now += 0.1
        assert not pacing.writes_come_first


def test_searches_are_not_slowed_by_rows_that_wait() -> None:
    """Where something was searched of late, its new rows have to get into a graph, so writes do not come first."""
    clock = Clock()
    pacing = Pacing(2, clock)
    with pacing:
        pacing.record_writes(1000)
        assert not pacing.writes_come_first
    clock.now += 1.0
    pacing.record_writes(1000)
    assert not pacing.writes_come_first
    clock.now += 10.0
    pacing.record_writes(1000)
    assert pacing.writes_come_first


def test_work_that_can_wait_rests_beside_searches() -> None:
    """A rest would take an hour while searches run, but ends with the index, and there is none without searches."""
    clock = Clock()
    pacing = Pacing(2, clock)
    pacing.rest(3600)
    with pacing:
        resting = threading.Thread(target=pacing.rest, args=(3600,))
        resting.start()
        resting.join(0.05)
        assert resting.is_alive()
        pacing.stop()
    resting.join(60)
    assert not resting.is_alive()
