"""Processes that are stopped, crash or hang under load, and what must not be taken for a hang."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import pytest

from lookalike.v1 import embedding_service_pb2
from support.multiprocess_server import Caller, MultiprocessServer, multiprocess_server
from support.serving import noise, raw

pytestmark = [pytest.mark.slow, pytest.mark.serial]

NOTICED_SECONDS = 1.0
"""In which health says NOT_SERVING after a process was stopped."""

KILLED_SECONDS = 2.0
"""In which a process that was stopped is dead."""

SLACK_SECONDS = 1.0
"""Added to both on a machine that other programs share."""

TICK_SECONDS = 0.1


@contextmanager
def server(folder: Path, *flags: str) -> Iterator[MultiprocessServer]:
    """Run a server with two frontends that watches itself, from when it serves."""
    with multiprocess_server(folder, "--watchdog", "true", *flags) as started:
        started.wait_for("serving")
        yield started


@pytest.fixture
def two(tmp_path: Path) -> Iterator[MultiprocessServer]:
    """Run such a server."""
    with server(tmp_path) as started:
        yield started


@pytest.fixture
def one(tmp_path: Path) -> Iterator[MultiprocessServer]:
    """Run such a server in a single process, whose event loop SIGUSR1 holds for half a second."""
    with server(tmp_path, "--frontend-processes", "0", "--stall", "0.5") as started:
        yield started


async def armed(server: MultiprocessServer) -> None:
    """Wait until a single process has begun to watch itself, which it has when it answers a call."""
    caller = Caller(server.address)
    async with caller.channel:
        await caller.embedding.Embed(embed())


def embed(seed: int = 1) -> embedding_service_pb2.EmbedRequest:
    """Make a valid request."""
    return embedding_service_pb2.EmbedRequest(image=raw(noise(seed)))


@asynccontextmanager
async def load(caller: Caller) -> AsyncIterator[Counter[grpc.StatusCode]]:
    """Call one frontend without end, eight calls at once; yield how many of the calls ended how."""
    ended: Counter[grpc.StatusCode] = Counter()

    async def call(number: int) -> None:
        while True:
            try:
                await caller.embedding.Embed(embed(number), timeout=30)
                ended[grpc.StatusCode.OK] += 1
            except grpc.aio.AioRpcError as error:
                ended[error.code()] += 1
                await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(call(number)) for number in range(8)]
    try:
        yield ended
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def stopwatch() -> AsyncIterator[Callable[[], float]]:
    """Yield what returns the seconds since then, but for those in which this machine had no time for this process."""
    began, late = time.monotonic(), 0.0

    async def tick() -> None:
        nonlocal late
        while True:
            before = time.monotonic()
            await asyncio.sleep(TICK_SECONDS)
            late += time.monotonic() - before - TICK_SECONDS

    ticking = asyncio.create_task(tick())
    try:
        yield lambda: time.monotonic() - began - late
    finally:
        ticking.cancel()


@contextmanager
def burners(count: int, seconds: float) -> Iterator[None]:
    """Run so many processes that do nothing but use a core, until the block ends and so many seconds at most."""
    burn = f"import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
    processes = [subprocess.Popen([sys.executable, "-c", burn]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


async def more_calls(ended: Counter[grpc.StatusCode]) -> None:
    """Wait until fifty more calls have succeeded."""
    until = ended[grpc.StatusCode.OK] + 50
    async with asyncio.timeout(30):
        while ended[grpc.StatusCode.OK] < until:  # noqa: ASYNC110 - the load has no event to wait for
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGSEGV, signal.SIGKILL])
async def test_lost_engine_is_noticed_and_replaced(two: MultiprocessServer, number: signal.Signals) -> None:
    """Stopped, crashed or killed under load: NOT_SERVING within a second, calls fail UNAVAILABLE until it is back."""
    async with (
        two.connect("frontend 1") as first,
        two.connect("frontend 2") as other,
        load(first) as ended,
        load(other) as ended_too,
    ):
        await more_calls(ended)
        async with stopwatch() as seconds:
            os.kill(two.pid("engine"), number)
            await asyncio.gather(first.healthy("NOT_SERVING"), other.healthy("NOT_SERVING"))
            assert seconds() < NOTICED_SECONDS + SLACK_SECONDS
            await two.logged("process_exited", child="engine")
            assert seconds() < KILLED_SECONDS + SLACK_SECONDS
        await asyncio.gather(first.healthy("SERVING"), other.healthy("SERVING"))
        await more_calls(ended)
        await more_calls(ended_too)
    for counts in (ended, ended_too):
        assert set(counts) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert len(two.events("process_exited")) == 1
    assert len(two.events("process_hangs")) == (number == signal.SIGSTOP)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGSEGV, signal.SIGKILL])
async def test_lost_frontend_takes_only_its_own_calls(two: MultiprocessServer, number: signal.Signals) -> None:
    """Stopped, crashed or killed under load: it is replaced, and no call of the other frontend fails."""
    async with (
        two.connect("frontend 1") as first,
        two.connect("frontend 2") as other,
        load(first) as lost,
        load(other) as kept,
    ):
        await more_calls(lost)
        await more_calls(kept)
        async with stopwatch() as seconds:
            os.kill(two.pid("frontend 1"), number)
            await two.logged("process_exited", child="frontend 1")
            assert seconds() < KILLED_SECONDS + SLACK_SECONDS
        await two.logged("serving", 2)
        await more_calls(kept)
        await more_calls(lost)
    assert set(kept) == {grpc.StatusCode.OK}
    assert set(lost) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    async with two.connect("frontend 1") as again:
        await again.embedding.Embed(embed())


async def test_stalled_loop_of_the_engine_is_replaced(tmp_path: Path) -> None:
    """An engine whose event loop is held has its stack logged, without values, and is then treated like a stopped one.

    The frontends' answer is the same; this process could still run its other threads.
    """
    with server(tmp_path, "--stall", "60") as two:
        async with two.connect("frontend 1") as first:
            os.kill(two.pid("engine"), signal.SIGUSR1)
            await first.healthy("NOT_SERVING")
            stalled = await two.logged("event_loop_stalled", process="engine")
            assert any("stall_loop" in frame for frame in stalled["frames"])
            assert "value of a local" not in str(stalled)
            await two.logged("process_hangs", child="engine")
            await first.healthy("SERVING")


async def test_engine_stopped_while_it_loads_is_replaced(tmp_path: Path) -> None:
    """While the model loads only a process that was stopped hangs: it is killed, and the next one serves."""
    with multiprocess_server(tmp_path, "--watchdog", "true") as two:
        await two.logged("process_started", child="engine")
        os.kill(two.pid("engine"), signal.SIGSTOP)
        await two.logged("process_hangs", child="engine")
        await two.logged("serving")
        assert len(two.events("process_exited")) == 1


async def test_stopped_process_does_not_hold_a_drain(two: MultiprocessServer) -> None:
    """A process that was stopped is killed while the server drains too, so that the server ends, and with 0."""
    for name in ("frontend 1", "engine"):
        os.kill(two.pid(name), signal.SIGSTOP)
    assert await asyncio.to_thread(two.stop) == 0
    assert two.log[-1]["event"] == "stopped"


async def test_hung_run_ends_the_engine(two: MultiprocessServer) -> None:
    """A run that does not end turns health NOT_SERVING, then the engine gives itself up, and the next one serves."""
    async with two.connect("frontend 1") as first:
        with two.runs_held():
            lost = asyncio.ensure_future(first.embedding.Embed(embed()))
            await two.logged("run_held")
            async with stopwatch() as seconds:
                await first.healthy("NOT_SERVING")
                # the limit of a run this short is a second
                assert seconds() < 1.0 + NOTICED_SECONDS + SLACK_SECONDS
                await two.logged("process_exited", child="engine", how="with status 70")
                assert seconds() < 1.0 + KILLED_SECONDS + SLACK_SECONDS
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await lost
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        await first.healthy("SERVING")
        assert len((await first.embedding.Embed(embed())).embedding) == 48


async def test_hung_run_ends_a_single_process(one: MultiprocessServer) -> None:
    """Where one process does all, a run that does not end turns health NOT_SERVING, and then it exits with 70."""
    caller = Caller(one.address)
    async with caller.channel:
        with one.runs_held():
            lost = asyncio.ensure_future(caller.embedding.Embed(embed()))
            await one.logged("run_held")
            await caller.healthy("NOT_SERVING")
            assert await asyncio.to_thread(one.wait) == 70
            with pytest.raises(grpc.aio.AioRpcError):
                await lost
    assert one.events("process_gives_up")[0]["why"] == "a run of the model hangs"


async def test_run_that_ends_late_is_forgiven(one: MultiprocessServer) -> None:
    """A run that ends in the second after health said NOT_SERVING costs nothing else: its caller gets its result."""
    caller = Caller(one.address)
    async with caller.channel:
        with one.runs_held():
            late = asyncio.ensure_future(caller.embedding.Embed(embed()))
            await one.logged("run_held")
            await caller.healthy("NOT_SERVING")
        assert len((await late).embedding) == 48
        await caller.healthy("SERVING")
    assert one.stop() == 0


async def lose_gpu(server: MultiprocessServer, caller: Caller) -> None:
    """Break the GPU: the next call is UNAVAILABLE, and health says NOT_SERVING."""
    noticed = asyncio.ensure_future(caller.healthy("NOT_SERVING"))
    await caller.healthy("SERVING")
    server.break_gpu()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.embedding.Embed(embed())
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    await noticed


@pytest.mark.parametrize("watchdog", ["true", "false"])
async def test_lost_gpu_ends_a_single_process(tmp_path: Path, watchdog: str) -> None:
    """A sticky error of CUDA turns health NOT_SERVING, callers get UNAVAILABLE, and then the process exits with 71.

    Also where the watchdog is off: nothing has to be judged.
    """
    with server(tmp_path, "--gpu", "--frontend-processes", "0", "--watchdog", watchdog) as one:
        await armed(one)
        caller = Caller(one.address)
        async with caller.channel:
            await lose_gpu(one, caller)
            assert await asyncio.to_thread(one.wait) == 71
    given_up = one.events("process_gives_up")[0]
    assert given_up["status"] == 71
    assert "CUDA failure 700: an illegal memory access" in given_up["why"]
    assert len(one.events("batch_failed")) == 1


async def test_lost_gpu_ends_the_engine(tmp_path: Path) -> None:
    """With front-end processes health says NOT_SERVING, the engine exits with 71, and the next one serves."""
    with server(tmp_path, "--gpu") as two:
        async with two.connect("frontend 1") as first:
            await first.embedding.Embed(embed())
            await lose_gpu(two, first)
            await two.logged("process_exited", child="engine", how="with status 71")
            await first.healthy("SERVING")
            assert len((await first.embedding.Embed(embed())).embedding) == 48


async def test_time_of_a_run_is_configurable(tmp_path: Path) -> None:
    """A run longer than `run_timeout_seconds` hangs, whatever was predicted, and `model_run_hangs` has the limit."""
    with server(tmp_path, "--frontend-processes", "0", "--run-timeout-seconds", "0.2") as one:
        caller = Caller(one.address)
        async with caller.channel:
            with one.runs_held():
                lost = asyncio.ensure_future(caller.embedding.Embed(embed()))
                assert await asyncio.to_thread(one.wait) == 70
                with pytest.raises(grpc.aio.AioRpcError):
                    await lost
    assert one.events("model_run_hangs")[0]["limit_seconds"] == 0.2


async def test_stall_is_logged_and_kills_nobody(one: MultiprocessServer) -> None:
    """An event loop that is held for half a second is logged with the function that held it, and that is all."""
    await armed(one)
    one.process.send_signal(signal.SIGUSR1)
    stalled = await one.logged("event_loop_stalled")
    assert any("stall_loop" in frame for frame in stalled["frames"])
    assert stalled["ms"] >= 250
    assert one.stop() == 0
    assert not one.events("process_gives_up")


async def test_held_loop_ends_a_single_process(tmp_path: Path) -> None:
    """Where one process does all, an event loop that is held for good ends it with 70."""
    with server(tmp_path, "--frontend-processes", "0", "--stall", "60") as one:
        await armed(one)
        one.process.send_signal(signal.SIGUSR1)
        assert await asyncio.to_thread(one.wait) == 70
        given_up = one.events("process_gives_up")[0]
        assert any("stall_loop" in frame for frame in given_up["event_loop"])


async def test_without_watchdog_a_hung_run_waits(tmp_path: Path) -> None:
    """With the watchdog off nothing is replaced, however long a run takes: the control of the tests above."""
    with server(tmp_path, "--watchdog", "false", "--frontend-processes", "0") as one:
        caller = Caller(one.address)
        async with caller.channel:
            with one.runs_held():
                late = asyncio.ensure_future(caller.embedding.Embed(embed()))
                await one.logged("run_held")
                await asyncio.sleep(4)  # the time in which the other servers gave up
            assert len((await late).embedding) == 48
        assert one.stop() == 0


async def test_stopped_supervisor_kills_nobody_afterwards(two: MultiprocessServer) -> None:
    """Frontends say that their supervisor is silent and serve on; once it goes on, nobody is killed for that."""
    async with two.connect("frontend 1") as first, load(first) as ended:
        two.process.send_signal(signal.SIGSTOP)
        await two.logged("supervisor_hangs", process="frontend 1")
        await more_calls(ended)
        two.process.send_signal(signal.SIGCONT)
        await two.logged("supervisor_hangs_no_more", process="frontend 1")
        await more_calls(ended)
    assert set(ended) == {grpc.StatusCode.OK}
    assert not two.events("process_hangs")


async def test_paused_server_goes_on(two: MultiprocessServer) -> None:
    """A server of which every process was stopped for a while, as by `docker pause`, goes on as if nothing was."""
    async with two.connect("frontend 1") as first:
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in two.pids:
                os.kill(pid, number)
            if number == signal.SIGSTOP:
                await asyncio.sleep(3)  # longer than any process may be silent
        async with load(first) as ended:
            await more_calls(ended)
            await more_calls(ended)
    assert set(ended) == {grpc.StatusCode.OK}
    assert not two.events("process_hangs")
    assert not two.events("event_loop_stalled")


@pytest.mark.parametrize(
    ("frontends", "seconds"),
    [
        ("2", 10),
        pytest.param("0", 10, marks=pytest.mark.nightly),
        *(pytest.param(each, 1800, marks=[pytest.mark.nightly, pytest.mark.timeout(2400)]) for each in ("0", "2")),
    ],
)
async def test_busy_machine_kills_nobody(tmp_path: Path, frontends: str, seconds: int) -> None:
    """At full load, on a machine with four times as many busy processes as cores, nothing is taken for a hang."""
    with server(tmp_path, "--frontend-processes", frontends, "--seconds", "0.05") as busy:
        caller = Caller(busy.address)
        with burners(4 * (os.cpu_count() or 1), seconds + 60):
            async with caller.channel, load(caller) as ended:
                await asyncio.sleep(seconds)
                await more_calls(ended)
        for event in ("process_hangs", "process_exited", "process_gives_up", "model_run_hangs", "engine_process_hangs"):
            assert not busy.events(event)
        assert busy.stop() == 0
