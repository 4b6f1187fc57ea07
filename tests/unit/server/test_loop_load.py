"""Which calls the event loop takes while it has more of them than it can end in time."""

from __future__ import annotations

import pytest

from lookalike_server.domain.calls import Call, Caller
from lookalike_server.domain.errors import Code, LookalikeError, Rejection
from lookalike_server.rpc.loop_load import LoopCall, LoopLoad

GREEDY, QUIET = Caller("greedy"), Caller("quiet")


class Loop:
    """A load with a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.load = LoopLoad(lambda: self.now)
        self.inside: list[LoopCall] = []

    def call(self, seconds: float = 0.5, caller: Caller = GREEDY) -> Call:
        """Make a call with this deadline."""
        return Call(self.now, self.now + seconds, caller)

    def enter(self, count: int, caller: Caller = GREEDY) -> None:
        """Let calls in that have all the time they need."""
        for _ in range(count):
            self.inside.append(self.load.enter(self.call(1e6, caller)))

    def end(self, count: int, seconds: float) -> None:
        """Let the oldest calls end, evenly within this time."""
        for _ in range(count):
            self.now += seconds / count
            self.inside.pop(0).end()

    def rejection(self, call: Call) -> LookalikeError:
        """Return why a call is rejected."""
        with pytest.raises(LookalikeError) as caught:
            self.load.enter(call)
        return caught.value


@pytest.fixture
def busy() -> Loop:
    """Return a loop that has ended 100 calls a second while it was busy, and has 60 inside."""
    loop = Loop()
    loop.enter(80)
    loop.end(20, 0.2)
    return loop


def test_a_call_that_would_end_too_late_is_rejected(busy: Loop) -> None:
    """Calls inside over calls that end in a second is the wait, and when a retry makes sense."""
    error = busy.rejection(busy.call(0.5))
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert error.retry_after == pytest.approx(0.6, rel=0.1)
    assert error.rejection is Rejection.EVENT_LOOP
    busy.load.enter(busy.call(0.7))


def test_few_calls_inside_are_always_tried(busy: Loop) -> None:
    """A rate that was measured under load says nothing about an idle loop."""
    busy.end(45, 0.45)
    assert len(busy.inside) == 15
    busy.load.enter(busy.call(0.001))


def test_a_burst_is_let_in_where_no_rate_is_known() -> None:
    """Nothing is rejected because of a guess."""
    loop = Loop()
    for _ in range(1000):
        loop.load.enter(loop.call(0.5))


def test_under_lasting_overload_calls_wait_for_a_fraction_of_their_time(busy: Loop) -> None:
    """What waits longer is rejected although it would be answered, so that those inside are answered soon."""
    long = busy.call(5.0)
    busy.load.enter(long)
    for _ in range(6):
        busy.rejection(busy.call(0.1))
        busy.now += 0.1
    assert busy.rejection(busy.call(5.0)).code is Code.RESOURCE_EXHAUSTED


def test_a_quiet_caller_waits_for_its_share_only(busy: Loop) -> None:
    """Calls of a caller that has more inside do not count against one that has none."""
    busy.rejection(busy.call(0.1, GREEDY))
    busy.load.enter(busy.call(0.1, QUIET))


def test_a_heavier_caller_has_more_turns(busy: Loop) -> None:
    """With four times the weight it waits for a quarter as many calls of others."""
    for _ in range(3):
        busy.load.enter(busy.call(1e6, QUIET))
    heavy = Caller("quiet", weight=4.0)
    assert busy.rejection(busy.call(0.05, QUIET)).retry_after == pytest.approx(0.07, rel=0.1)
    busy.load.enter(busy.call(0.05, heavy))


def test_what_waits_elsewhere_counts_no_more(busy: Loop) -> None:
    """A call that turns out to need the model is the model's; its end says nothing about the loop."""
    for call in busy.inside[15:]:
        call.wait_elsewhere()
        call.end()
    busy.load.enter(busy.call(0.001))
