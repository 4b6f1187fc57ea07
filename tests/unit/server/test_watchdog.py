"""What counts as a hang, with time and beats that a test decides: own time, silence, stalls and runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from lookalike_server.inference.run_watch import LIMIT_FACTOR, MIN_LIMIT_SECONDS, RunWatch
from lookalike_server.watchdog import gpu_loss
from lookalike_server.watchdog.beats import ENGINE, SUPERVISOR, Beats
from lookalike_server.watchdog.gpu_loss import GpuLoss
from lookalike_server.watchdog.loop_stalls import StallLog, stack
from lookalike_server.watchdog.own_time import OwnTime
from lookalike_server.watchdog.run_hangs import DOUBT_SECONDS, LAST_SECONDS, RunHangs
from lookalike_server.watchdog.silence import HUNG_SECONDS, Silence
from lookalike_server.watchdog.starvation import ModelThreads, WaitedSeconds
from lookalike_server.watchdog.thread import Watchdog
from support.fake_device import ILLEGAL_ADDRESS

STEP = 0.05


class Machine:
    """A clock, a processor and a loop that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.worked = 0.0
        self.beat = 100.0
        self.waited = 5.0

    def silence(self) -> Silence:
        """Judge the loop."""
        return Silence(lambda: self.beat, lambda: self.waited, lambda: self.now)


@pytest.fixture
def machine() -> Machine:
    """Make one."""
    return Machine()


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """Collect the log."""
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_late_look_counts_as_two_intervals(machine: Machine) -> None:
    """Time that the one who looks slept through does not count; usual steps count in full."""
    own = OwnTime(0.1, clock=lambda: machine.now)
    machine.now += 0.1
    assert own.step() == pytest.approx(0.1)
    machine.now += 60.0
    assert own.step() == pytest.approx(0.2)
    machine.now += 0.1
    assert own.step() == pytest.approx(0.1)


def test_late_look_counts_while_the_process_worked(machine: Machine) -> None:
    """Where the process used the processor meanwhile, something held the interpreter, and the wait counts."""
    own = OwnTime(0.1, lambda: machine.worked, lambda: machine.now)
    machine.now += 3.0
    machine.worked += 2.5
    assert own.step() == pytest.approx(2.5)


def test_silence_grows_until_the_next_beat(machine: Machine) -> None:
    """Silence is the time since the last beat, and a beat ends it."""
    silence = machine.silence()
    for count in range(1, 11):
        assert silence.look(STEP) == pytest.approx(count * STEP)
    machine.now += 1.0
    machine.beat = machine.now - 0.01
    assert silence.look(STEP) == pytest.approx(0.01)
    assert silence.look(STEP) == pytest.approx(0.01 + STEP)


def test_waiting_for_a_processor_is_no_silence(machine: Machine) -> None:
    """Of three seconds without a beat, those for which the thread was ready and had no processor do not count."""
    silence, seconds = machine.silence(), 0.0
    for _ in range(60):
        machine.waited += 0.8 * STEP
        seconds = silence.look(STEP)
    assert seconds == pytest.approx(0.6, abs=STEP)
    assert seconds < HUNG_SECONDS


def test_beats_are_those_of_each_slot() -> None:
    """A process' beat, pid and report are its own, and the next process of a slot begins again."""
    beats = Beats(3)
    beats.start(ENGINE, 42)
    first, other = beats.last(ENGINE), beats.last(SUPERVISOR)
    beats.beat(ENGINE)
    beats.report_hang(ENGINE, hung=True)
    assert beats.last(ENGINE) > first
    assert (beats.pid(ENGINE), beats.is_hung(ENGINE)) == (42, True)
    assert (beats.last(SUPERVISOR), beats.pid(SUPERVISOR), beats.is_hung(SUPERVISOR)) == (other, 0, False)
    beats.start(ENGINE, 43)
    assert (beats.pid(ENGINE), beats.is_hung(ENGINE)) == (43, False)


def test_stalls_are_logged_once_a_second_and_counted(machine: Machine, logged: list[Any]) -> None:
    """Ten stalls in two seconds are at most three lines, which count all ten."""
    stalls = StallLog(threading.get_ident(), lambda: machine.now)
    for _ in range(10):
        stalls.look(0.31)
        stalls.look(0.0)
        machine.now += 0.2
    machine.now += 1.0
    stalls.look(0.0)
    assert len(logged) <= 3
    assert sum(line["stalls"] for line in logged) == 10
    assert "test_watchdog.py" in logged[0]["frames"][-3]


def test_short_stalls_are_not_logged(machine: Machine, logged: list[Any]) -> None:
    """Up to 250 ms is no stall, and a stall that lasts is one line a second."""
    stalls = StallLog(threading.get_ident(), lambda: machine.now)
    stalls.look(0.25)
    assert not logged
    for count in range(60):
        stalls.look(0.3 + count * STEP + 1e-9)
        machine.now += STEP
    assert len(logged) == 3


def test_stack_has_places_and_no_values() -> None:
    """A stack names files, lines and functions, and nothing that a variable holds."""
    value = "token-of-a-caller"
    frames = stack(threading.get_ident())
    assert any(frame.endswith("test_stack_has_places_and_no_values") for frame in frames)
    assert value not in str(frames)


def sleeps(logged: list[Any]) -> None:
    """Hold the event loop by waiting, until that is logged."""
    while not logged:
        time.sleep(0.6)


def computes(logged: list[Any]) -> None:
    """Hold the event loop with Python, until that is logged."""
    while not logged:
        pass


def holds_the_interpreter(logged: list[Any]) -> None:
    """Hold the event loop, and with it every thread, by calls of native code, until that is logged."""
    numbers = 10_000_000
    while not logged:
        began = time.thread_time()
        sum(range(numbers))
        numbers = round(numbers * 0.6 / max(0.01, time.thread_time() - began))


@pytest.mark.parametrize("hold", [sleeps, computes, holds_the_interpreter])
async def test_whatever_holds_the_loop_is_logged(logged: list[Any], hold: Callable[[list[Any]], None]) -> None:
    """A loop held for more than 250 ms is logged with the function that did so; one that only waits is not."""
    with Watchdog() as watchdog:
        watchdog.log_stalls()
        await asyncio.sleep(0.5)  # what must not be logged
        assert not logged
        hold(logged)
    assert logged[0]["event"] == "event_loop_stalled"
    assert any(frame.endswith(hold.__name__) for frame in logged[0]["frames"])


class Threads(ModelThreads):
    """The model's threads of a machine that is busy or not."""

    def __init__(self, share: float) -> None:
        self.share = share

    def starved_share(self) -> float:
        """Return what the test says."""
        return self.share


class Judged:
    """Runs, and what was reported about them."""

    def __init__(self, starved: float = 0.0, limit: float = 0.0) -> None:
        self.runs = RunWatch(limit)
        self.reports: list[bool] = []
        self.starved = starved
        self.hangs = RunHangs(self.runs, self.reports.append, lambda: Threads(self.starved))

    def seconds_until_given_up(self, most: float = 100.0) -> float | None:
        """Look until the process is given up, and return after how many seconds; None where it is not."""
        for count in range(round(most / STEP)):
            if self.hangs.look(STEP):
                return count * STEP
        return None


def test_run_past_its_limit_is_reported_and_given_up(logged: list[Any]) -> None:
    """A run that does not end is reported within a second of its limit, and given up within two."""
    judged = Judged()
    judged.runs.begin(0.5, images=3)
    given_up = judged.seconds_until_given_up()
    assert given_up is not None
    assert LIMIT_FACTOR * 0.5 + DOUBT_SECONDS + LAST_SECONDS <= given_up < LIMIT_FACTOR * 0.5 + 2.0
    assert judged.reports == [True]
    assert [line["event"] for line in logged] == ["model_run_hangs"]
    assert logged[0]["images"] == 3


def test_short_runs_have_a_second() -> None:
    """However short the prediction, nothing is overdue within a second, and runs that end never are."""
    judged = Judged()
    for _ in range(50):
        run = judged.runs.begin(0.001, images=1)
        assert judged.seconds_until_given_up(MIN_LIMIT_SECONDS) is None
        judged.runs.end(run)
    assert judged.reports == []


@pytest.mark.usefixtures("logged")
def test_fixed_limit_of_a_run() -> None:
    """Where the settings give runs a time, the prediction does not count, nor the second that short runs have."""
    judged = Judged(limit=0.3)
    judged.runs.begin(5.0, images=1)
    given_up = judged.seconds_until_given_up()
    assert given_up is not None
    assert 0.3 + DOUBT_SECONDS + LAST_SECONDS <= given_up < 0.3 + 2.0


def test_lost_gpu_is_reported_at_once_and_given_up() -> None:
    """The first look after a sticky error reports it, and the process is given up a second later."""
    runs, reports = RunWatch(), list[bool]()
    loss = GpuLoss(runs, reports.append)
    assert not any(loss.look(STEP) for _ in range(100))
    assert reports == []
    runs.gpu_error = RuntimeError(ILLEGAL_ADDRESS)
    assert not loss.look(STEP)
    assert reports == [True]
    assert loss.reason == ILLEGAL_ADDRESS
    looks = 1
    while not loss.look(STEP):
        looks += 1
    assert looks * STEP == pytest.approx(gpu_loss.LAST_SECONDS, abs=2 * STEP)
    assert reports == [True]


@pytest.mark.usefixtures("logged")
def test_run_that_ends_after_all_is_forgiven() -> None:
    """A run that ends after it was reported is reported as such, and the next one is judged afresh."""
    judged = Judged()
    run = judged.runs.begin(0.0, images=1)
    assert judged.seconds_until_given_up(MIN_LIMIT_SECONDS + DOUBT_SECONDS + 3 * STEP) is None
    assert judged.reports == [True]
    judged.runs.end(run)
    judged.runs.begin(0.0, images=1)
    assert judged.seconds_until_given_up(MIN_LIMIT_SECONDS) is None
    assert judged.reports == [True, False]


@pytest.mark.usefixtures("logged")
def test_starved_run_is_given_time_but_not_forever() -> None:
    """While the model's threads get no processor a run is not judged; after a dozen seconds it is all the same."""
    judged = Judged(starved=0.9)
    judged.runs.begin(0.0, images=1)
    assert judged.seconds_until_given_up(10.0) is None
    assert judged.reports == []
    assert judged.seconds_until_given_up() is not None


@pytest.mark.parametrize(("state", "waits"), [("R", True), ("S", False), ("T", False)])
def test_wait_that_is_not_over_counts(tmp_path: Path, state: str, waits: bool) -> None:
    """A thread that was ready at two looks and has not run between them waits, which the kernel does not count yet."""
    (tmp_path / "stat").write_text(f"1 (a name) {state} 0", encoding="utf-8")
    (tmp_path / "schedstat").write_text("5000 2000000000 7", encoding="utf-8")
    waited = WaitedSeconds(lambda: str(tmp_path))
    assert waited() == 2.0
    assert (waited() > 2.0) == waits
    (tmp_path / "schedstat").write_text("6000 3000000000 8", encoding="utf-8")
    assert waited() == 3.0


def test_own_threads_that_sleep_are_not_starved() -> None:
    """A thread that waits for a lock, as one in a run that hangs would, has waited for no processor."""
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        threads = ModelThreads()
        release.wait(0.2)
        assert threads.starved_share() < 0.5
    finally:
        release.set()
        thread.join()
