"""`/readyz` says what gRPC's health says, with the reason, and strangers at its port disturb no call."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from lookalike.v1 import embedding_service_pb2
from lookalike_server.__main__ import main
from lookalike_server.config import Settings
from lookalike_server.domain.protocols import Session
from lookalike_server.inference.manifest import ModelFolder
from lookalike_server.monitoring.http_server import MAX_CONNECTIONS
from lookalike_server.monitoring.listening import listen_sockets, parse_metrics_listen
from lookalike_server.rpc.readiness import Readiness
from lookalike_server.rpc.server import RpcServer
from support.http_requests import get
from support.paths import MODELS
from support.serving import Serve, connect, load_session, noise, raw, until

OK, UNAVAILABLE = 200, 503


async def both(port: int, target: str) -> tuple[int, str]:
    """Return the status and the text of `/readyz`, once it is what gRPC's health says."""
    async with connect(target) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        health = await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
    reply = await get(port, "/readyz")
    assert reply.status == (OK if health.status == health_pb2.HealthCheckResponse.SERVING else UNAVAILABLE)
    assert (await get(port, "/healthz")).status == OK
    return reply.status, reply.body.decode().rstrip()


async def test_readiness_is_that_of_health(serve: Serve, tmp_path: Path) -> None:
    """While the server starts, serves, hangs, is damaged and drains, `/readyz` and health agree; scrapes work."""
    may_load = threading.Event()

    def load(folder: ModelFolder, settings: Settings) -> Session:
        assert may_load.wait(60)
        return load_session(folder, settings)

    target, stop = f"unix:{tmp_path}/socket", asyncio.Event()
    found: dict[str, RpcServer] = {}

    async def run() -> None:
        async with serve(load_session=load, listen=target, metrics_listen="0") as served:
            found["server"] = served.app.server
            await stop.wait()

    with capture_logs() as log:
        running = asyncio.create_task(run())
        await until(lambda: any(line["event"] == "metrics_listening" for line in log))
    port = next(line["port"] for line in log if line["event"] == "metrics_listening")
    assert await both(port, target) == (UNAVAILABLE, Readiness.STARTING.sentence)
    assert (await get(port, "/metrics")).status == OK
    may_load.set()
    async with asyncio.timeout(60):
        while (await get(port, "/readyz")).status != OK:
            pass
    server = found["server"]
    assert await both(port, target) == (OK, "serving")
    server.report_hang(hung=True)
    assert await both(port, target) == (UNAVAILABLE, Readiness.HUNG.sentence)
    server.report_hang(hung=False)
    assert await both(port, target) == (OK, "serving")
    server.report_damage(damaged=True)
    assert await both(port, target) == (UNAVAILABLE, Readiness.DAMAGED.sentence)
    server.report_damage(damaged=False)
    await server.announce_drain(0)
    assert await both(port, target) == (UNAVAILABLE, Readiness.DRAINING.sentence)
    assert b"lookalike_build_info{" in (await get(port, "/metrics")).body
    stop.set()
    await running
    with pytest.raises(ConnectionError):
        await get(port, "/healthz")


async def test_strangers_disturb_no_call(serve: Serve) -> None:
    """While strangers hold every connection, send garbage and ask for metrics on and on, calls are answered."""
    async with serve(metrics_listen="0") as served:
        port = served.app.metrics_port
        assert port is not None
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2 * MAX_CONNECTIONS)]
        for _, writer in idle:
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: ")
        done = asyncio.Event()

        async def scrape() -> int:
            scrapes = 0
            while not done.is_set():
                assert (await get(port, "/metrics")).status == OK
                scrapes += 1
            return scrapes

        scraping = [asyncio.create_task(scrape()) for _ in range(4)]
        for seed in range(50):
            await served.embedding.Embed(embedding_service_pb2.EmbedRequest(image=raw(noise(seed))), timeout=60)
        done.set()
        assert all(await asyncio.gather(*scraping))
        handled = b'grpc_server_handled_total{grpc_code="OK",grpc_method="Embed"'
        async with asyncio.timeout(60):  # a call is counted once its response is on its way
            while [line.split()[-1] for line in await _lines(port) if line.startswith(handled)] != [b"50.0"]:
                pass
        for _, writer in idle:
            writer.close()


async def _lines(port: int) -> list[bytes]:
    return (await get(port, "/metrics")).body.splitlines()


async def test_no_port_without_the_setting(serve: Serve) -> None:
    """Without `metrics_listen` nothing listens and nothing is counted."""
    with capture_logs() as log:
        async with serve() as served:
            assert served.app.metrics_port is None
    assert not [line for line in log if line["event"] == "metrics_listening"]


@pytest.mark.parametrize("frontends", [0, 1])
def test_an_address_that_cannot_be_used_ends_the_start(frontends: int, tmp_path: Path) -> None:
    """A port that is taken, one that takes the calls, and what is no address end the command with a sentence each."""
    (taken,) = listen_sockets(parse_metrics_listen("0"))
    with taken:
        port = taken.getsockname()[1]
        for listen, metrics_listen, why in (
            ("127.0.0.1:0", str(port), f"127.0.0.1:{port}: the port is in use"),
            ("127.0.0.1:0", "9464/metrics", "9464/metrics: it has no port"),
            ("127.0.0.1:1", "1", "127.0.0.1:1: port 1 takes the calls"),
        ):
            if frontends and listen.endswith(":1"):
                continue  # the supervisor reserves it first, which this user may not
            options = {
                "model": MODELS / "tiny",
                "data-dir": tmp_path,
                "listen": listen,
                "metrics-listen": metrics_listen,
                "frontend-processes": frontends,
            }
            ran = CliRunner().invoke(main, ["serve", *(f"--{name}={value}" for name, value in options.items())])
            assert ran.exit_code == 1
            assert f"lookalike-server: metrics_listen: cannot listen on {why}" in ran.stderr
