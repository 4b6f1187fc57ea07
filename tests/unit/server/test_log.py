"""The log as a collector reads it."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import structlog

from lookalike_server.domain import events
from lookalike_server.domain.calls import TraceContext
from lookalike_server.telemetry import LogObserver, configure_log
from support.written_lines import WrittenLines


def test_a_line_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line and its end are one write, so a server that is killed leaves no unfinished line."""
    pipe = WrittenLines()
    monkeypatch.setattr(sys, "stderr", pipe)
    configure_log("json", "info")
    structlog.get_logger().info("serving", port=1)
    structlog.get_logger().warning("a line\nbreak")
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in pipe.writes)
    assert [json.loads(line)["event"] for line in pipe.writes] == ["serving", "a line\nbreak"]


class _Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    """A clock at 0."""
    return _Clock()


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> WrittenLines:
    """The log of this test, as JSON."""
    pipe = WrittenLines()
    monkeypatch.setattr(sys, "stderr", pipe)
    configure_log("json", "info")
    return pipe


def lines(pipe: WrittenLines) -> list[dict[str, Any]]:
    """Return the lines of a log."""
    return [json.loads(line) for line in pipe.writes]


def reported(pipe: WrittenLines) -> int:
    """Count the faults that a log tells of: its lines, and those that they stand for."""
    return sum(1 + line.get("repeated", 0) for line in lines(pipe))


def failed(number: int, error: Exception | None = None, method: str = "/a/B") -> events.CallCompleted:
    """Make the event of a call that failed by a fault."""
    return events.CallCompleted(method, "INTERNAL", 0.1, f"id-{number}", error or RuntimeError("broken"))


COMPLETED = events.CallCompleted("/a/B", "OK", 0.1, "good", None)


def test_a_fault_is_logged_at_once(pipe: WrittenLines, clock: _Clock) -> None:
    """The first fault of a kind is one line with its traceback and request id, and no count."""
    LogObserver(clock)(failed(1))
    (line,) = lines(pipe)
    assert (line["event"], line["request_id"], line["method"]) == ("call_failed", "id-1", "/a/B")
    assert "RuntimeError: broken" in line["exception"]
    assert "repeated" not in line


def test_a_call_is_logged_with_its_trace(pipe: WrittenLines, clock: _Clock) -> None:
    """A line about a call has its trace and its span, as OpenTelemetry writes them, so that one leads to the other."""
    trace = TraceContext(0xAB, 0xCD, sampled=False)
    LogObserver(clock)(replace(failed(1), trace=trace))
    (line,) = lines(pipe)
    assert (line["trace_id"], line["span_id"]) == (f"{0:030}ab", f"{0:014}cd")


def test_a_burst_is_one_line_a_second(pipe: WrittenLines, clock: _Clock) -> None:
    """A thousand faults in three seconds are a few lines, whose counts add up to all of them."""
    observer = LogObserver(clock)
    for number in range(1000):
        clock.now = number * 0.003
        observer(failed(number))
    observer.flush()
    assert len(pipe.writes) <= 6
    assert reported(pipe) == 1000
    assert lines(pipe)[-1]["request_id"] == "id-999"


def test_faults_a_second_apart_are_all_logged(pipe: WrittenLines, clock: _Clock) -> None:
    """Faults that come no faster than once a second are each a line without a count."""
    observer = LogObserver(clock)
    for number in range(5):
        clock.now = float(number)
        observer(failed(number))
    observer.flush()
    assert [line["request_id"] for line in lines(pipe)] == [f"id-{number}" for number in range(5)]
    assert all("repeated" not in line for line in lines(pipe))


@pytest.mark.parametrize("others", [COMPLETED, events.BatchCompleted(1, 1, 0.1), events.EmbeddingReused(cached=True)])
def test_the_end_of_a_burst_is_reported_with_the_next_event(
    pipe: WrittenLines, clock: _Clock, others: events.Event
) -> None:
    """What was counted last is logged with whatever event comes after its second, once, with the last one's id."""
    observer = LogObserver(clock)
    for number in range(4):
        observer(failed(number))
    observer(others)
    assert len(pipe.writes) == 1
    clock.now = 1.0
    observer(others)
    observer(others)
    observer.flush()
    last = lines(pipe)[1:]
    assert [(line["event"], line["request_id"], line["repeated"]) for line in last] == [("call_failed", "id-3", 2)]
    assert last[0]["error"] == "RuntimeError: broken"
    assert reported(pipe) == 4


def test_the_end_of_a_burst_is_reported_at_the_end(pipe: WrittenLines, clock: _Clock) -> None:
    """What was counted last is logged when the server closes, and only once."""
    observer = LogObserver(clock)
    for number in range(3):
        observer(failed(number))
    observer.flush()
    observer.flush()
    assert reported(pipe) == 3
    assert len(pipe.writes) == 2


def test_kinds_are_logged_apart(pipe: WrittenLines, clock: _Clock) -> None:
    """Another method, type of error or event is a line of its own, whatever was logged just before."""
    observer = LogObserver(clock)
    kinds: list[events.Event] = [
        failed(1),
        failed(2, method="/a/C"),
        failed(3, OSError("disk")),
        events.BatchFailed(4, RuntimeError("model")),
        events.ItemFailed(RuntimeError("item")),
        events.IndexMaintenanceFailed("Men", RuntimeError("graph")),
    ]
    for event in kinds * 2:
        observer(event)
    assert len(pipe.writes) == len(kinds)
    observer.flush()
    assert reported(pipe) == 2 * len(kinds)


def test_no_fault_is_lost_between_threads(pipe: WrittenLines) -> None:
    """Faults that several threads report at once are all reported."""
    observer = LogObserver()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: observer(failed(number)), range(2000)))
    observer.flush()
    assert reported(pipe) == 2000
