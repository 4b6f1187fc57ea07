"""The metrics and the readiness of a server with frontend processes, while its processes hang, die and are replaced."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from lookalike.v1 import embedding_service_pb2
from lookalike_server.rpc.readiness import Readiness
from support.http_requests import Reply, get
from support.multiprocess_server import Caller, MultiprocessServer, multiprocess_server
from support.serving import noise, raw

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]

EMBEDDED = ("grpc_server_handled_total", frozenset({("grpc_method", "Embed"), ("grpc_code", "OK")}))
STARTED = ("grpc_server_started_total", frozenset({("grpc_method", "Embed")}))
ANSWERED = ("grpc_server_handling_seconds_count", frozenset({("grpc_method", "Embed")}))
IN_A_BATCH = ("lookalike_stage_seconds_count", frozenset({("stage", "queue")}))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MultiprocessServer]:
    """Run a server with two frontends and metrics."""
    with multiprocess_server(tmp_path_factory.mktemp("two"), "--metrics-listen", "0") as started:
        started.wait_for("serving")
        yield started


def port_of(server: MultiprocessServer) -> int:
    """Return the port of the metrics."""
    return int(server.wait_for("metrics_listening")["port"])


async def reply(server: MultiprocessServer, path: str, is_right: Callable[[Reply], bool] = lambda _: True) -> Reply:
    """Ask until the response is right: what is asked for is of other processes, which come to it in their time."""
    async with asyncio.timeout(60):
        while True:
            found = await get(port_of(server), path, accept="application/openmetrics-text")
            if is_right(found):
                return found


async def scrape(server: MultiprocessServer) -> tuple[Values, Values]:
    """Return the values of the counters and histograms, and of the gauges."""
    body = (await reply(server, "/metrics")).body.decode()
    counted: Values = {}
    gauges: Values = {}
    parse: Callable[[str], Iterator[Metric]] = text_string_to_metric_families  # untyped
    for family in parse(body):
        for each in family.samples:
            into = gauges if family.type == "gauge" else counted
            into[each.name, frozenset(each.labels.items())] = each.value
    return counted, gauges


def value(values: Values, wanted: tuple[str, frozenset[tuple[str, str]]]) -> float:
    """Return the sum of the values with this name and at least these labels."""
    return sum(each for (name, labels), each in values.items() if name == wanted[0] and wanted[1] <= labels)


async def counted_until(server: MultiprocessServer, embedded: float) -> Values:
    """Scrape until every process has counted so many calls: that comes after their responses, and never more."""
    async with asyncio.timeout(60):
        while True:
            counted, _ = await scrape(server)
            values = [value(counted, each) for each in (EMBEDDED, STARTED, ANSWERED, IN_A_BATCH)]
            if values == [embedded] * 4:
                return counted
            assert max(values) <= embedded


async def embed(caller: Caller, count: int) -> None:
    """Make calls, one after the other."""
    for seed in range(count):
        await caller.embedding.Embed(embedding_service_pb2.EmbedRequest(image=raw(noise(seed))))


def assert_none_went_back(before: Values, after: Values) -> None:
    """Check that no counter and no histogram has a smaller value than before."""
    lost = {key: (number, after.get(key)) for key, number in before.items() if after.get(key, -1.0) < number}
    assert not lost


async def test_counts_are_summed_and_outlive_their_processes(two: MultiprocessServer) -> None:
    """Calls through either frontend are counted once; none is lost when any of the processes is killed."""
    async with AsyncExitStack() as stack:
        for count, name in ((3, "frontend 1"), (5, "frontend 2")):
            await embed(await stack.enter_async_context(two.connect(name)), count)
    total = 8
    last = await counted_until(two, total)
    for kills, name in enumerate(("frontend 1", "engine", "metrics"), start=1):
        os.kill(two.pid(name), signal.SIGKILL)
        await two.logged("process_started", 2, child=name)
        assert two.wait_for("process_exited", kills)["child"] == name
        if name != "metrics":
            await two.logged("serving", kills + 1)
        counted, _ = await scrape(two)
        assert_none_went_back(last, counted)
        async with two.connect("frontend 1") as caller:
            await embed(caller, 2)
        total += 2
        last = await counted_until(two, total)
        assert_none_went_back(counted, last)


async def test_gauges_are_those_of_the_processes_that_live(two: MultiprocessServer) -> None:
    """What is there once is reported once, and memory and files are those of the engine and both frontends."""
    counted, gauges = await scrape(two)
    assert value(gauges, ("lookalike_build_info", frozenset({("model", "tiny")}))) == 1
    assert value(gauges, ("python_info", frozenset())) == 1
    assert value(gauges, ("lookalike_catalog_damaged", frozenset())) == 0
    files = [len(os.listdir(f"/proc/{two.pid(name)}/fd")) for name in ("engine", "frontend 1", "frontend 2")]  # noqa: PTH208
    assert value(gauges, ("process_open_fds", frozenset())) > max(files)
    assert value(counted, ("process_cpu_seconds_total", frozenset())) > 0


async def test_readiness_while_the_engine_hangs(two: MultiprocessServer) -> None:
    """While the engine process is stopped `/readyz` says that something hangs; the last metrics are still served."""
    assert (await reply(two, "/readyz", lambda found: found.status == 200)).body == b"serving\n"
    counted, _ = await scrape(two)
    os.kill(two.pid("engine"), signal.SIGSTOP)
    try:
        hung = await reply(two, "/readyz", lambda found: found.status == 503)
        assert hung.body.decode() == f"{Readiness.HUNG.sentence}\n"
        assert (await get(port_of(two), "/healthz")).status == 200
        assert_none_went_back(counted, (await scrape(two))[0])
    finally:
        os.kill(two.pid("engine"), signal.SIGCONT)
    await reply(two, "/readyz", lambda found: found.status == 200)


@pytest.mark.parametrize("frontends", [0, 2])
async def test_readiness_from_start_to_end(frontends: int, tmp_path: Path) -> None:
    """`/readyz` is 503 with the reason until the server serves, and from SIGTERM on; metrics are there all the time."""
    (tmp_path / "lock").touch()
    flags = ("--metrics-listen", "0", "--frontend-processes", str(frontends), "--lame-duck-seconds", "3600")
    with multiprocess_server(tmp_path, *flags) as server:
        with server.runs_held():  # also those that warm the model up
            await server.logged("run_held")
            starting = await reply(server, "/readyz")
            assert (starting.status, starting.body.decode()) == (503, f"{Readiness.STARTING.sentence}\n")
            assert (await get(port_of(server), "/metrics")).status == 200
        await server.logged("serving")
        await reply(server, "/readyz", lambda found: found.status == 200)
        server.process.send_signal(signal.SIGTERM)
        draining = await reply(server, "/readyz", lambda found: found.status == 503)
        assert draining.body.decode() == f"{Readiness.DRAINING.sentence}\n"
        assert (await get(port_of(server), "/metrics")).status == 200
        assert server.stop(signal.SIGTERM) == 0  # the second one ends it
        with pytest.raises(ConnectionError):
            await get(port_of(server), "/healthz")
