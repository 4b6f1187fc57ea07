"""Servers in trouble: each with a fault or a load that an alert is for, and a healthy one beside them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path

import grpc
import numpy as np

from crash.disks import memory
from lookalike.v1 import (
    catalog_service_pb2,
    embedding_service_pb2,
    image_pb2,
    product_pb2,
    search_service_pb2,
)
from lookalike_server.domain.catalog import EmbeddedProduct
from lookalike_server.inference.manifest import read_model_folder
from lookalike_server.store.sqlite import FILE
from support.multiprocess_server import Caller, MultiprocessServer, multiprocess_server
from support.paths import MODELS
from support.pem_files import Authority
from support.serving import encoded, noise, product, raw
from support.sqlite_pages import leaves, swap_pages
from support.store_fixtures import opened
from support.store_fixtures import product as stored

MODEL = read_model_folder(MODELS / "tiny").model
_GENERATOR = np.random.default_rng(1)


@dataclass
class Scene:
    """A server in trouble.

    Attributes:
        name: Its job in Prometheus is `lookalike-NAME`.
        flags: Of `lookalike-server serve`.
        prepare: Makes what it needs in its folder before it starts; the stack is closed after it has ended.
        trouble: What happens to it for as long as it runs; None where its start is trouble enough.
    """

    name: str
    flags: tuple[str, ...] = ()
    prepare: Callable[[Path, ExitStack], object] = lambda *_: None
    trouble: Callable[[Running], Awaitable[object]] | None = None


@dataclass
class Running:
    """The server of a scene while it runs.

    Attributes:
        scene: What it plays.
        folder: What it has; its catalog is in `data`.
        server: Its process and its log.
        stack: Closed before the server ends.
    """

    scene: Scene
    folder: Path
    server: MultiprocessServer
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def job(self) -> str:
        """Its job in Prometheus."""
        return f"lookalike-{self.scene.name}"

    @property
    def flags(self) -> list[str]:
        """Its flags, with its folder."""
        return [flag.replace("FOLDER", str(self.folder)) for flag in self.scene.flags]

    @property
    def data(self) -> Path:
        """Where its catalog is."""
        return self.folder / ("memory/data" if "FOLDER/memory/data" in self.scene.flags else "data")

    @property
    def metrics_port(self) -> int:
        """Where its metrics are."""
        return int(self.server.wait_for("metrics_listening")["port"])

    @property
    def environment(self) -> dict[str, str]:
        """Return its settings as variables, as an operator has them in its container."""
        own = {"--model": str(MODELS / "tiny"), "--data-dir": str(self.data)}
        settings = own | {name: value for name, value in pairwise(self.flags) if name.startswith("--")}
        settings = {name: value for name, value in settings.items() if name not in {"--seconds", "--stall"}}
        return {f"LOOKALIKE_{name[2:].replace('-', '_').upper()}": value for name, value in settings.items()}


@contextmanager
def started(scene: Scene, folder: Path) -> Iterator[Running]:
    """Start the server of a scene; it may not serve yet."""
    folder.mkdir(exist_ok=True)
    flags = [flag.replace("FOLDER", str(folder)) for flag in scene.flags]
    common = ("--frontend-processes", "0", "--metrics-listen", "127.0.0.1:0")
    with ExitStack() as prepared, ExitStack() as processes:
        scene.prepare(folder, prepared)
        server = processes.enter_context(multiprocess_server(folder, *common, *flags))
        running = Running(scene, folder, server)
        with running.stack:
            yield running


async def _repeat(call: Callable[[int], Awaitable[object]], pause: float = 0.0, begin: int = 0) -> None:
    """Call without end, with other numbers; failed calls are part of the trouble."""
    for number in count(begin):
        with suppress(grpc.aio.AioRpcError):
            await call(number)
        await asyncio.sleep(pause)


async def _together(*tasks: Awaitable[object]) -> None:
    await asyncio.gather(*tasks)


def _embed(seed: int) -> embedding_service_pb2.EmbedRequest:
    return embedding_service_pb2.EmbedRequest(image=raw(noise(seed)))


def _fill(folder: Path, **categories: int) -> None:
    """Store so many products with random vectors in each category, of ids like `Men-0`."""
    with opened(folder / "data", MODEL) as store:
        for category, size in categories.items():
            vectors = _GENERATOR.normal(size=(size, 1, MODEL.dim)).astype(np.float32)
            products = (stored(f"{category}-{at}", category) for at in range(size))
            store.upsert_all([(EmbeddedProduct(*each), None) for each in zip(products, vectors, strict=True)]).result(
                120
            )


def _near(category: str, k: int) -> search_service_pb2.SearchRequest:
    vector = image_pb2.Vector(values=_GENERATOR.normal(size=MODEL.dim))
    return search_service_pb2.SearchRequest(vector=vector, category=category, k=k)


async def _overload(running: Running) -> None:
    """Send more than one run of one image at a time can do, and hold the event loop now and then."""
    caller = Caller(running.server.address)

    async def stall(_: int) -> None:
        running.server.process.send_signal(signal.SIGUSR1)

    async def leave(number: int) -> None:
        call = caller.embedding.Embed(_embed(number), timeout=20)
        await asyncio.sleep(0.2)
        call.cancel()

    async with caller.channel:
        await _together(
            *(
                _repeat(lambda number: caller.embedding.Embed(_embed(number), timeout=20), begin=each * 10**6)
                for each in range(40)
            ),
            *(_repeat(lambda number: caller.embedding.Embed(_embed(number), timeout=0.3), 0.05) for _ in range(2)),
            _repeat(leave, 0.1, begin=10**9),
            _repeat(stall, 1.0),
        )


def _damage(folder: Path, _: ExitStack) -> None:
    _fill(folder, Men=600)
    pages = leaves(folder / "data", "products")
    swap_pages(folder / "data", pages[0], pages[-1])


async def _write_to_damaged(running: Running) -> None:
    await running.server.logged("catalog_damaged")
    caller = Caller(running.server.address)
    request = catalog_service_pb2.UpdateAttributesRequest(id="Men-1", attributes={"color": "red"})
    async with caller.channel:
        await _repeat(lambda _: caller.catalog.UpdateAttributes(request), 0.05)


def _audited(folder: Path, _: ExitStack) -> None:
    (folder / "audit").mkdir()
    _fill(folder, Men=20_000, Women=1100)


def _certificate(folder: Path, _: ExitStack) -> None:
    today = datetime.now(UTC)
    Authority(folder).pair("server", "127.0.0.1", not_after=today + timedelta(days=1))


async def _fill_log(running: Running) -> None:
    """Hold an old version of the catalog, as a forgotten shell does, and write 300 MB beside it."""
    caller = Caller(running.server.address)
    image = encoded(_GENERATOR.integers(0, 256, size=(1600, 1600, 3), dtype=np.uint8)).encoded
    reader = running.stack.enter_context(
        closing(sqlite3.connect(f"file:{running.data / FILE}?mode=ro", uri=True, check_same_thread=False))
    )
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM products").fetchone()
    async with caller.channel:
        for number in range(31):  # the same product each time: only the log grows
            one = product_pb2.ProductInput(id="one", category="Men", title="One")
            one.images.append(image_pb2.Image(encoded=image + number.to_bytes(4)))
            await caller.catalog.UpsertProducts(catalog_service_pb2.UpsertProductsRequest(products=[one]), timeout=60)
            await asyncio.sleep(0.7)


async def _search_poor_graph(running: Running) -> None:
    """Search by a graph with too few links, and lose the folder of the audit log."""
    caller = Caller(running.server.address)
    shutil.rmtree(running.folder / "audit")
    request = catalog_service_pb2.UpdateAttributesRequest(id="Men-1", attributes={"color": "red"})
    async with caller.channel:
        await running.server.logged("graph_built", category="Men")
        await _together(
            _repeat(lambda _: caller.search.Search(_near("Men", 2)), 0.02),
            _repeat(lambda _: caller.search.Search(_near("Women", 1000)), 0.1),
            _repeat(lambda _: caller.catalog.UpdateAttributes(request), 0.5),
        )


async def _delete_beside_slow_graph(running: Running) -> None:
    """Delete most of a category while the graph of another one takes the thread that would compact it."""
    caller = Caller(running.server.address)
    async with caller.channel:
        await running.server.logged("catalog_loaded")
        for first in range(0, 11_000, 1_000):
            ids = [f"Few-{at}" for at in range(first, first + 1_000)]
            await caller.catalog.DeleteProducts(catalog_service_pb2.DeleteProductsRequest(ids=ids), timeout=60)


async def _use(running: Running) -> None:
    """Do a little of everything."""
    caller = Caller(running.server.address)
    large = encoded(noise(1, 1024))

    async def everything(number: int) -> None:
        image = encoded(noise(number // 2))
        await caller.embedding.Embed(embedding_service_pb2.EmbedRequest(image=image))
        await caller.embedding.Embed(embedding_service_pb2.EmbedRequest(image=large))
        request = catalog_service_pb2.UpsertProductsRequest(products=[product(f"p{number % 50}", number)])
        await caller.catalog.UpsertProducts(request)
        await caller.search.Search(search_service_pb2.SearchRequest(image=image, category="Shoes", k=5))

    async with caller.channel:
        await _repeat(everything, 0.1)


TLS = ("--tls-certificate-file", "FOLDER/server.pem", "--tls-key-file", "FOLDER/server.key")
GRAPH = ("--full-scan-threshold", "256", "--hnsw-m", "3", "--hnsw-ef-construction", "2", "--hnsw-ef-search", "1")
SLOW_GRAPH = ("--full-scan-threshold", "12000", "--hnsw-m", "64", "--hnsw-ef-construction", "20000")

SCENES = (
    Scene("healthy", ("--embedding-cache-bytes", "1000000"), trouble=_use),
    Scene(
        "overload",
        (
            *("--max-batch-size", "1", "--preferred-batch-size", "1", "--watchdog", "true"),
            *("--seconds", "0.05", "--stall", "0.3"),
        ),
        trouble=_overload,
    ),
    Scene("damaged", prepare=_damage, trouble=_write_to_damaged),
    Scene("tls", TLS, _certificate),
    Scene(
        "disk",
        ("--data-dir", "FOLDER/memory/data", "--max-stored-image-bytes", "10000000"),
        lambda folder, stack: stack.enter_context(memory(folder, 420 << 10)),
        _fill_log,
    ),
    Scene(
        "recall",
        (*GRAPH, "--recall-sample-rate", "1", "--audit-log", "FOLDER/audit/audit.jsonl"),
        _audited,
        _search_poor_graph,
    ),
    Scene("behind", SLOW_GRAPH, lambda folder, _: _fill(folder, Many=12_500, Few=12_000), _delete_beside_slow_graph),
)

PID = os.getpid()
"""Of the process that holds the catalog in the scene `disk`."""
