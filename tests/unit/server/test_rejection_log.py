"""Rejected calls in the log, by a clock and a timer that the test moves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from lookalike_server.domain.errors import Rejection
from lookalike_server.domain.events import CallRejected
from lookalike_server.rejection_log import WINDOW_SECONDS
from lookalike_server.telemetry import LogObserver, configure_log
from support.written_lines import WrittenLines

SEARCH, EMBED = "/lookalike.v1.SearchService/Search", "/lookalike.v1.EmbeddingService/Embed"


class _Time:
    """A clock, and the timers that wait on it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[_Timer] = []

    def clock(self) -> float:
        return self.now

    def timer(self, seconds: float, function: Callable[[], None]) -> _Timer:
        self.timers.append(_Timer(self.now + seconds, function))
        return self.timers[-1]

    def advance(self, seconds: float) -> None:
        """Let time pass, and call what is due."""
        self.now += seconds
        for timer in list(self.timers):
            if timer.started and timer.due <= self.now:
                self.timers.remove(timer)
                timer.function()


class _Timer:
    """A timer that `_Time` fires."""

    daemon = False

    def __init__(self, due: float, function: Callable[[], None]) -> None:
        self.due = due
        self.function = function
        self.started = False

    def start(self) -> None:
        self.started = True

    def cancel(self) -> None:
        self.started = False


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> WrittenLines:
    """The log of this test."""
    lines = WrittenLines()
    monkeypatch.setattr(sys, "stderr", lines)
    configure_log("json", "info")
    return lines


def test_a_minute_is_one_line(lines: WrittenLines) -> None:
    """All rejected calls of a minute are one line, with their sum, their reasons and their methods."""
    time = _Time()
    observer = LogObserver(time.clock, time.timer)
    for _ in range(3):
        observer(CallRejected(SEARCH, Rejection.QUEUE_FULL))
    observer(CallRejected(SEARCH, Rejection.DEADLINE))
    time.advance(WINDOW_SECONDS - 1)
    observer(CallRejected(EMBED, Rejection.QUEUE_FULL))
    assert lines.read() == []
    time.advance(1)
    (line,) = lines.read()
    assert (line["event"], line["level"], line["count"], line["seconds"]) == ("calls_rejected", "warning", 5, 60.0)
    assert line["reasons"] == {"queue_full": 4, "deadline": 1}
    assert line["methods"] == {SEARCH: {"queue_full": 3, "deadline": 1}, EMBED: {"queue_full": 1}}


def test_a_quiet_minute_is_no_line(lines: WrittenLines) -> None:
    """Each minute with rejected calls has a line of its own, and one without has none."""
    time = _Time()
    observer = LogObserver(time.clock, time.timer)
    for count in (2, 0, 0, 1):
        for _ in range(count):
            observer(CallRejected(SEARCH, Rejection.BYTES))
        time.advance(WINDOW_SECONDS)
    assert [line["count"] for line in lines.read()] == [2, 1]
    assert not time.timers


@pytest.mark.parametrize(
    ("reasons", "level"),
    [
        ([Rejection.QUOTA, Rejection.STARTING, Rejection.DRAINING], "info"),
        ([Rejection.QUOTA, Rejection.EVENT_LOOP], "warning"),
        ([Rejection.INDEX_BEHIND], "warning"),
    ],
)
def test_levels(lines: WrittenLines, reasons: list[Rejection], level: str) -> None:
    """What a caller's quota or a restart rejects is information, and whatever else is a warning."""
    time = _Time()
    observer = LogObserver(time.clock, time.timer)
    for reason in reasons:
        observer(CallRejected(SEARCH, reason))
    time.advance(WINDOW_SECONDS)
    assert [line["level"] for line in lines.read()] == [level]


def test_the_rest_is_logged_at_the_end(lines: WrittenLines) -> None:
    """What was counted when the server closes is logged then, once, and its timer does nothing more."""
    time = _Time()
    observer = LogObserver(time.clock, time.timer)
    observer(CallRejected(SEARCH, Rejection.DRAINING))
    time.advance(7)
    observer.flush()
    observer.flush()
    time.advance(WINDOW_SECONDS)
    assert [(line["count"], line["seconds"]) for line in lines.read()] == [(1, 7.0)]


def test_no_call_is_lost_between_threads(lines: WrittenLines) -> None:
    """Calls that threads report at once, and lines written between them, count all of them."""
    observer = LogObserver()
    with ThreadPoolExecutor(4) as threads:
        for _ in range(20):
            list(threads.map(lambda _: observer(CallRejected(SEARCH, Rejection.QUEUE_FULL)), range(100)))
            threads.submit(observer.flush).result()
    observer.flush()
    assert sum(line["count"] for line in lines.read()) == 2000
