"""Signals to the real command, in one process and with front ends: the lame duck, its end, and reloading."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lookalike.v1 import embedding_service_pb2, embedding_service_pb2_grpc
from support.paths import MODELS
from support.processes import ServerProcess, server_process
from support.serving import connect, noise, raw, until

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("frontends", ["0", "2"])]

LONG = ("--lame-duck-seconds", "3600", "--frontend-processes")


async def embed(channel: Any) -> int:
    """Embed an image and return the embedding's length."""
    stub: Any = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
    response = await stub.Embed(embedding_service_pb2.EmbedRequest(image=raw(noise(1))), wait_for_ready=True)
    return len(response.embedding)


async def test_a_lame_duck_serves_until_a_second_signal(tmp_path: Path, frontends: str) -> None:
    """SIGTERM turns health to NOT_SERVING and nothing else for the lame duck's time; a second one ends the server."""
    with server_process(MODELS / "tiny", tmp_path / "data", *LONG, frontends) as server:
        async with connect(server.address) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            assert await embed(channel) == 48
            server.process.send_signal(signal.SIGTERM)
            async for update in health.Watch(health_pb2.HealthCheckRequest()):
                if update.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                    break
            assert await embed(channel) == 48
        async with connect(server.address) as channel:  # a new connection too
            assert await embed(channel) == 48
        assert server.process.poll() is None
        assert server.stop(signal.SIGTERM) == 0


async def test_sigint_has_no_lame_duck(tmp_path: Path, frontends: str) -> None:
    """Ctrl-C ends the server at once, as nobody waits for it."""
    with server_process(MODELS / "tiny", tmp_path / "data", *LONG, frontends) as server:
        async with connect(server.address) as channel:
            assert await embed(channel) == 48
            assert server.stop(signal.SIGINT) == 0


async def test_sighup_reloads_the_log_level(tmp_path: Path, frontends: str) -> None:
    """Every process logs by the level that the file has now, and keeps the one it has where the file is broken."""
    processes = 1 if frontends == "0" else 4
    config = tmp_path / "config.toml"
    config.write_text('log_level = "info"\n')
    with server_process(
        MODELS / "tiny", tmp_path / "data", "--config", str(config), "--frontend-processes", frontends
    ) as server:
        async with connect(server.address) as channel:
            assert await embed(channel) == 48
            assert not _logged(server, "call_completed")
            for text, event in (('log_level = "debug"\n', "reloaded"), ("log_level = \n", "reload_failed")):
                config.write_text(text)
                server.process.send_signal(signal.SIGHUP)
                await _until_logged(server, processes, event, '"part": "log_level"')
                before = _logged(server, "call_completed")
                assert await embed(channel) == 48
                await _until_logged(server, before + 1, "call_completed")
        assert server.stop(signal.SIGTERM) == 0


async def _until_logged(server: ServerProcess, count: int, event: str, field: str = "") -> None:
    await until(lambda: _logged(server, event, field) >= count)


def _logged(server: ServerProcess, event: str, field: str = "") -> int:
    """Count the lines of an event with a field."""
    lines = [line.decode() for line in tuple(server.log)]
    return sum(f'"event": "{event}"' in line and field in line for line in lines)
