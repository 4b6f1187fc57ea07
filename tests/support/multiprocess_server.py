"""A server with workers, as its user starts it: its processes, its log, and a channel to the worker that is meant."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lookalike.v1 import (
    catalog_service_pb2_grpc,
    embedding_service_pb2,
    embedding_service_pb2_grpc,
    search_service_pb2_grpc,
)
from support.paths import MODELS

PROGRAM = Path(__file__).parent / "frontend_program.py"
PATIENCE = 60.0


class Crew:
    """The processes of one server and what they have logged."""

    def __init__(self, process: subprocess.Popen[bytes], hold: Path) -> None:
        self.process = process
        self.hold = hold
        self.lines: list[dict[str, Any]] = []
        self.other: list[str] = []
        """What was written that is no event."""
        self._grown = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def address(self) -> str:
        """Where it listens."""
        (port,) = {line["port"] for line in self.lines if line["event"] == "serving"}
        return f"127.0.0.1:{port}"

    def pid(self, name: str) -> int:
        """The process that has this part now: "model", "worker 1", ..."""
        started = [line for line in self.lines if line["event"] == "started" and line["child"] == name]
        return int(started[-1]["child_pid"])

    @property
    def pids(self) -> set[int]:
        """Every process that it ever had."""
        return {int(line["child_pid"]) for line in self.lines if line["event"] == "started"} | {self.process.pid}

    async def said(self, event: str, count: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait until an event was logged so many times, with these fields, and return the last."""
        return await asyncio.to_thread(self.wait_for, event, count, **fields)

    def wait_for(self, event: str, count: int = 1, **fields: Any) -> dict[str, Any]:
        """As `said`."""
        wanted = {"event": event} | fields
        with self._grown:
            if not self._grown.wait_for(lambda: len(self._matching(wanted)) >= count or self._ended, PATIENCE):
                raise AssertionError(f"{wanted} was not logged {count} times: {self.lines[-20:]}")
            found = self._matching(wanted)
            assert len(found) >= count, f"it ended without {wanted}: {self.lines[-20:]} {self.other}"
            return found[-1]

    def said_so_far(self, event: str) -> list[dict[str, Any]]:
        """The events of this name until now."""
        with self._grown:
            return self._matching({"event": event})

    @asynccontextmanager
    async def to(self, name: str) -> AsyncIterator[Caller]:
        """A connection of its own that this worker has taken; the kernel chooses, so as many are made as it takes."""
        async with asyncio.timeout(PATIENCE):
            while True:
                caller = Caller(self.address)
                request_id = os.urandom(8).hex()
                await caller.embedding.GetModel(
                    embedding_service_pb2.GetModelRequest(), metadata=(("x-request-id", request_id),)
                )
                if (await self.said("call", request_id=request_id))["process"] == name:
                    break
                await caller.channel.close()
        async with caller.channel:
            yield caller

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have runs of the model wait until the block ends."""
        with self.hold.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Wait until every process has ended, and return the supervisor's exit status."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)  # the log ends with the last process that has it
        assert not self._reader.is_alive()
        return status

    def _matching(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        return [line for line in self.lines if wanted.items() <= line.items()]

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._grown:
                if line.startswith(b"{"):
                    self.lines.append(json.loads(line))
                else:
                    self.other.append(line.decode())
                self._grown.notify_all()
        with self._grown:
            self._ended = True
            self._grown.notify_all()


class Caller:
    """Stubs on a connection of its own."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(
            address,
            options=(
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_http_proxy", 0),
                ("grpc.enable_retries", 0),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 100),
            ),
        )
        self.embedding: Any = embedding_service_pb2_grpc.EmbeddingServiceStub(self.channel)
        self.search: Any = search_service_pb2_grpc.SearchServiceStub(self.channel)
        self.catalog: Any = catalog_service_pb2_grpc.CatalogServiceStub(self.channel)
        self._health: Any = health_pb2_grpc.HealthStub(self.channel)

    async def healthy(self, status: str) -> None:
        """Wait until health says so."""
        wanted = health_pb2.HealthCheckResponse.ServingStatus.Value(status)
        async with asyncio.timeout(PATIENCE):
            async for update in self._health.Watch(health_pb2.HealthCheckRequest()):
                if update.status == wanted:
                    return


@contextmanager
def crew(folder: Path, *flags: str, program: bool = True) -> Iterator[Crew]:
    """A server with two workers over the tiny model; everything it started is ended after the block."""
    hold = folder / "hold"
    hold.touch()
    command = [sys.executable, str(PROGRAM), "--hold", str(hold)]
    process = subprocess.Popen(
        [
            *(command if program else [sys.executable, "-m", "lookalike_server", "serve"]),
            *("--model", str(MODELS / "tiny"), "--data-dir", str(folder / "data"), "--listen", "127.0.0.1:0"),
            *(
                "--frontend-processes",
                "2",
                "--intra-op-threads",
                "1",
                "--max-concurrent-batches",
                "1",
                "--preferred-batch-size",
                "8",
                "--embedding-cache-bytes",
                "0",
            ),
            *("--log-format", "json", "--log-level", "debug"),
            *flags,
        ],
        stderr=subprocess.PIPE,
    )
    started = Crew(process, hold)
    try:
        yield started
    finally:
        if process.poll() is None:
            process.kill()  # the others notice
        started.ended()
        assert process.stderr is not None
        process.stderr.close()
