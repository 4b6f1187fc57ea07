"""`kill -9` at random moments under concurrent upserts, moves, updates and deletes.

Ten kills, or as many as CRASH_KILLS says (`make test-crash`: a hundred).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brute_force import distance
from crash.shop import CATEGORIES, DIM, State, Writer, write_until_gone
from lookalike.v1 import catalog_service_pb2 as pb
from lookalike.v1 import catalog_service_pb2_grpc, image_pb2, search_service_pb2, search_service_pb2_grpc
from lookalike_server.domain import Metric
from processes import SERVE, server_process
from serving import MODELS, connect

KILLS = int(os.environ.get("CRASH_KILLS", "10"))
PLANTED = (sys.executable, str(Path(__file__).with_name("early_acknowledgement.py")), "serve")
SETTINGS = ("--flat-limit", "8", "--segment-rows", "64", "--threads", "1", "--lanes", "1", "--lane-batch", "4")


class Catalogue:
    """The folder that dies and comes back, and what its writers know."""

    def __init__(self, folder: Path, seed: int, command: tuple[str, ...]) -> None:
        self._folder = folder
        self._command = command
        self._random = random.Random(seed)  # noqa: S311 - a test's choices
        self.writers = [
            Writer(f"w{number}", random.Random(seed * 100 + number))  # noqa: S311 - a test's choices
            for number in range(8)
        ]

    async def live_and_die(self) -> None:
        """Serve, change, and be killed after some acknowledged changes."""
        with server_process(MODELS / "tiny", self._folder, *SETTINGS, command=self._command) as server:
            patience = self._random.randint(1, 60)
            await write_until_gone(server.address, self.writers, lambda: _kill(server.process.pid), patience)

    async def faults(self) -> list[str]:
        """Serve again and say what is wrong: products that may not be, and answers that brute force does not give."""
        with server_process(MODELS / "tiny", self._folder, *SETTINGS) as server:
            async with connect(server.address) as channel:
                found = await self._found(channel)
                wrong = [fault for writer in self.writers for fault in writer.settle(found)]
                return wrong + await self._wrong_answers(channel, {key: each for key, each in found.items() if each})

    async def _found(self, channel: Any) -> dict[str, State | None]:
        """Every product, its vectors by asking for them: each known vector finds its product at distance 0."""
        catalog = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        listed = await catalog.ListProducts(pb.ListProductsRequest(page_size=1000))
        found: dict[str, State | None] = {}
        for product in listed.products:
            count = (await catalog.GetProduct(pb.GetProductRequest(id=product.id))).image_count
            version = product.attributes["version"]
            found[product.id] = next(
                (
                    state
                    for state in self._may_be(product.id)
                    if (state.category, state.version, len(state.vectors)) == (product.category, version, count)
                ),
                State(product.category, version, ()),
            )
        return found

    def _may_be(self, product_id: str) -> Iterator[State]:
        for writer in self.writers:
            for states in (writer.known, writer.under_way):
                state = states.get(product_id)
                if state is not None:
                    yield state

    async def _wrong_answers(self, channel: Any, found: dict[str, State]) -> list[str]:
        search = search_service_pb2_grpc.SearchServiceStub(channel)
        wrong = []
        for seed, category in enumerate((*CATEGORIES, "")):
            query = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
            right = sorted(
                (min(distance(np.array(vector, np.float32), query, Metric.COSINE) for vector in state.vectors), key)
                for key, state in found.items()
                if state.vectors and category in ("", state.category)
            )
            if not right:
                continue
            request = search_service_pb2.SearchRequest(
                vector=image_pb2.Vector(values=query),
                category=category,
                all_categories=not category,
                k=1000,
                exact=True,
            )
            neighbors = (await search.Search(request)).neighbors
            answer = [(neighbor.distance, neighbor.product.id) for neighbor in neighbors]
            if [key for _, key in answer] != [key for _, key in right] or not np.allclose(
                [far for far, _ in answer], [far for far, _ in right], atol=1e-6
            ):
                wrong.append(f"{category or 'all'}: {answer} should be {right}")
        return wrong


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("first", range(0, KILLS, 10))
def test_acknowledged_writes_survive(tmp_path: Path, first: int) -> None:
    """After each kill what was acknowledged is there, nothing is half there, and every search equals brute force."""

    async def run() -> None:
        catalogue = Catalogue(tmp_path, seed=first, command=SERVE)
        for _ in range(min(10, KILLS - first)):
            await catalogue.live_and_die()
            assert await catalogue.faults() == []
        assert sum(writer.acknowledged for writer in catalogue.writers) > 10

    asyncio.run(run())


def test_the_suite_notices_a_server_that_acknowledges_early(tmp_path: Path) -> None:
    """The control: with writes acknowledged before their commit, a few kills show that some are lost."""

    async def run() -> list[str]:
        catalogue = Catalogue(tmp_path, seed=1, command=PLANTED)
        for _ in range(10):
            await catalogue.live_and_die()
            if faults := await catalogue.faults():
                return faults
        return []

    assert asyncio.run(run())
