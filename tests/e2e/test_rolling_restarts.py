"""Two servers that are restarted in turn behind one client: no call fails.

ROLLING_RESTARTS sets how often; twice by default.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from lookalike.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    embedding_service_pb2,
    embedding_service_pb2_grpc,
)
from lookalike_client.channel import channel_options
from support.paths import MODELS, ROOT
from support.processes import ServerProcess, server_process
from support.serving import noise, product, raw, until

pytestmark = [pytest.mark.slow, pytest.mark.serial]

RESTARTS = int(os.environ.get("ROLLING_RESTARTS", "2"))
CALLS_A_RESTART = 1_000  # at least
CALLERS = 16
LAME_DUCK = ("--lame-duck-seconds", "2")  # the default, which `server_process` overrides

BALANCED: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
SHIPPED: dict[str, Any] = json.loads((ROOT / "clients/go/service_config.json").read_text(encoding="utf-8"))

CONFIGS: dict[str, dict[str, Any]] = {
    "shipped": BALANCED | SHIPPED,
    "round_robin": BALANCED,  # its health checks alone
    "pick_first": {},  # neither health checks nor retries
}


class Pair:
    """Two servers, each on a port of its own, and the ports in the order of a client's addresses."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[int, tuple[ExitStack, ServerProcess]] = {}
        self.ports = _free_ports(2)

    @property
    def target(self) -> str:
        """The target of a client of both."""
        return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def start(self, port: int, *flags: str) -> None:
        """Start one of them, and return once it serves."""
        stack = ExitStack()
        quick = ("--provider", "cpu", "--intra-op-threads", "1", "--max-concurrent-batches", "1")
        server = stack.enter_context(
            server_process(
                *(MODELS / "tiny", self._folder / str(port), "--listen", f"127.0.0.1:{port}"),
                *(*quick, "--preferred-batch-size", "8", *flags),
            )
        )
        self._running[port] = (stack, server)
        with grpc.insecure_channel(server.address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            catalog: Any = catalog_service_pb2_grpc.CatalogServiceStub(channel)
            named = product("port", 1)
            named.title = str(port)
            catalog.UpsertProducts(catalog_service_pb2.UpsertProductsRequest(products=[named]))

    def stop(self, port: int, number: int = signal.SIGTERM) -> None:
        """End one of them in good order."""
        stack, server = self._running.pop(port)
        with stack:
            assert server.stop(number) == 0

    def kill(self) -> None:
        """End those that run."""
        for stack, _ in self._running.values():
            stack.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Run two servers that are lame ducks for the default time."""
    pair = Pair(tmp_path)
    try:
        for port in pair.ports:
            pair.start(port, *LAME_DUCK)
        yield pair
    finally:
        pair.kill()


class Callers:
    """Callers that call again as soon as they have their response, and count what they get."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._embedding: Any = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        self._catalog: Any = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        self.outcomes: Counter[str] = Counter()
        self.by_port: Counter[int] = Counter()
        self.stopped = False

    async def run(self) -> None:
        """Call until stopped."""
        async with asyncio.TaskGroup() as group:
            for seed in range(CALLERS):
                group.create_task(self._call(seed))

    async def _call(self, seed: int) -> None:
        embed = embedding_service_pb2.EmbedRequest(image=raw(noise(seed)))
        which = catalog_service_pb2.GetProductRequest(id="port")
        chance = np.random.default_rng(seed)  # in turns, all calls of a kind would meet the same server
        while not self.stopped:
            try:
                if chance.random() < 0.5:
                    await self._embedding.Embed(embed, timeout=20)
                else:
                    self.by_port[int((await self._catalog.GetProduct(which, timeout=20)).product.title)] += 1
            except grpc.aio.AioRpcError as error:
                self.outcomes[f"{error.code().name}: {error.details()}"] += 1
            else:
                self.outcomes["OK"] += 1

    async def go_on(self, calls: int) -> None:
        """Wait for so many calls from now on."""
        last = self.outcomes.total() + calls
        await until(lambda: self.outcomes.total() >= last)

    async def reach(self, port: int) -> None:
        """Wait until this server responds again."""
        last = self.by_port[port]
        await until(lambda: self.by_port[port] > last)


@pytest.mark.parametrize(
    ("client", "restarts"), [("shipped", 2 * RESTARTS), ("round_robin", RESTARTS), ("pick_first", RESTARTS)]
)
async def test_no_call_fails(pair: Pair, client: str, restarts: int) -> None:
    """Each server is restarted once the client has found the other one again; not one call fails, retries or not."""
    config = CONFIGS[client]
    options = [each for each in channel_options(pair.target) if each[0] != "grpc.service_config"]
    options += [("grpc.service_config", json.dumps(config)), ("grpc.enable_retries", int("methodConfig" in config))]
    async with grpc.aio.insecure_channel(pair.target, options=options) as channel:
        callers = Callers(channel)
        calling = asyncio.create_task(callers.run())
        for restart in range(restarts):
            port = pair.ports[restart % 2]
            await callers.go_on(CALLS_A_RESTART // 2)
            await asyncio.to_thread(pair.stop, port)
            await asyncio.to_thread(pair.start, port, *LAME_DUCK)
            if client != "pick_first":  # which stays where it is
                await callers.reach(port)
            await callers.go_on(CALLS_A_RESTART // 2)
        callers.stopped = True
        await calling
    assert set(callers.outcomes) == {"OK"}, callers.outcomes
    assert callers.outcomes.total() >= CALLS_A_RESTART * restarts


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
