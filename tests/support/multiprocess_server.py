"""A server with frontend processes, as a user starts it: its processes, its log, and a channel to each frontend."""

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

TIMEOUT_SECONDS = 120.0


class MultiprocessServer:
    """The processes of one server, and their log."""

    def __init__(self, process: subprocess.Popen[bytes], lock: Path) -> None:
        self.process = process
        self._lock = lock
        self.log: list[dict[str, Any]] = []
        self.other_lines: list[str] = []
        """Lines of standard error that are not log events."""
        self._grown = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def address(self) -> str:
        """HOST:PORT where it listens."""
        (port,) = {line["port"] for line in self.log if line["event"] == "serving"}
        return f"127.0.0.1:{port}"

    def pid(self, name: str) -> int:
        """Return the pid of the current "engine", "frontend 1", ... process."""
        started = [line for line in self.log if line["event"] == "process_started" and line["child"] == name]
        return int(started[-1]["child_pid"])

    @property
    def pids(self) -> set[int]:
        """The pids of all its processes until now."""
        return {int(line["child_pid"]) for line in self.log if line["event"] == "process_started"} | {self.process.pid}

    async def logged(self, event: str, count: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait until an event was logged this many times with these fields, and return the last."""
        return await asyncio.to_thread(self.wait_for, event, count, **fields)

    def wait_for(self, event: str, count: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait as `logged`, blocking."""
        wanted = {"event": event} | fields
        with self._grown:
            if not self._grown.wait_for(lambda: len(self._matching(wanted)) >= count or self._ended, TIMEOUT_SECONDS):
                raise AssertionError(f"{wanted} was not logged {count} times: {self.log[-20:]}")
            found = self._matching(wanted)
            assert len(found) >= count, f"the server ended without {wanted}: {self.log[-20:]} {self.other_lines}"
            return found[-1]

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the log events of this name until now."""
        with self._grown:
            return self._matching({"event": event})

    @asynccontextmanager
    async def connect(self, name: str) -> AsyncIterator[Caller]:
        """Connect to one frontend. The kernel chooses which one accepts, so connect again until it is the right one."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                caller = Caller(self.address)
                request_id = os.urandom(8).hex()
                await caller.embedding.GetModel(
                    embedding_service_pb2.GetModelRequest(), metadata=(("x-request-id", request_id),)
                )
                if (await self.logged("call_completed", request_id=request_id))["process"] == name:
                    break
                await caller.channel.close()
        async with caller.channel:
            yield caller

    @contextmanager
    def runs_held(self) -> Iterator[None]:
        """Hold the model's runs until the block ends."""
        with self._lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def break_gpu(self) -> None:
        """Have the next run of a server with `--gpu` fail for good; that of its next process is healthy."""
        self._lock.with_suffix(".breaks").touch()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait until every process has ended, and return the supervisor's exit status."""
        status = self.process.wait(TIMEOUT_SECONDS)
        self._reader.join(TIMEOUT_SECONDS)  # it ends when the last process closes standard error
        assert not self._reader.is_alive()
        return status

    def _matching(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        return [line for line in self.log if wanted.items() <= line.items()]

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._grown:
                if line.startswith(b"{"):
                    self.log.append(json.loads(line))
                else:
                    self.other_lines.append(line.decode())
                self._grown.notify_all()
        with self._grown:
            self._ended = True
            self._grown.notify_all()


class Caller:
    """Stubs with a connection of their own."""

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
        """Wait until the health service reports this status."""
        wanted = health_pb2.HealthCheckResponse.ServingStatus.Value(status)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            async for update in self._health.Watch(health_pb2.HealthCheckRequest()):
                if update.status == wanted:
                    return


@contextmanager
def multiprocess_server(folder: Path, *flags: str) -> Iterator[MultiprocessServer]:
    """Run a server with two frontends and the tiny model; all its processes have ended after the block."""
    lock = folder / "lock"
    lock.touch()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "support.frontend_program", "--lock", str(lock)),
            *("--model", str(MODELS / "tiny"), "--data-dir", str(folder / "data"), "--listen", "127.0.0.1:0"),
            *("--frontend-processes", "2", "--intra-op-threads", "1", "--max-concurrent-batches", "1"),
            *("--preferred-batch-size", "8", "--embedding-cache-bytes", "0"),
            *("--watchdog", "false"),  # tests hold runs for as long as they need
            *("--log-format", "json", "--log-level", "debug", "--lame-duck-seconds", "0"),
            *flags,
        ],
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    server = MultiprocessServer(process, lock)
    try:
        yield server
    finally:
        if process.poll() is None:
            process.kill()  # the other processes notice and end
        server.wait()
        assert process.stderr is not None
        process.stderr.close()
