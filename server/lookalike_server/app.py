"""The composition root: open, load, warm, serve, drain, close. The only place that builds things.

Tests use it too, with port 0, a temporary folder and a session of their own.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from lookalike_server.config import Settings
from lookalike_server.domain import Model, Runtime
from lookalike_server.engine import Engine
from lookalike_server.errors import Code, LookalikeError
from lookalike_server.index.hnsw import HnswSettings
from lookalike_server.index.partitioned import PartitionedIndex
from lookalike_server.index.segment import PartitionSettings
from lookalike_server.inference.batcher import MicroBatcher
from lookalike_server.inference.embedder import PhotoEmbedder
from lookalike_server.inference.image import PhotoReader
from lookalike_server.inference.ladder import Plan, lower_priority
from lookalike_server.inference.manifest import read_model_folder
from lookalike_server.inference.reuse import Reuse
from lookalike_server.model import LoadSession, plan_model
from lookalike_server.protocols import Observer
from lookalike_server.rpc.auth import Authenticator, read_tokens
from lookalike_server.rpc.gate import Gate
from lookalike_server.rpc.server import RpcServer
from lookalike_server.store.sqlite import VERSION, Failure, Store
from lookalike_server.telemetry import LogObserver

INDEX_FOLDER = "index"
"""Where the index keeps its graphs, in the catalogue's folder."""


@dataclass(frozen=True, slots=True)
class App:
    """A server that answers: where, and its parts that a test may want to look at."""

    port: int
    engine: Engine
    batcher: MicroBatcher
    index: PartitionedIndex
    server: RpcServer


@dataclass(frozen=True, slots=True)
class Loaded:
    """An engine that is ready, and its parts."""

    engine: Engine
    batcher: MicroBatcher
    index: PartitionedIndex
    plan: Plan


async def serve(settings: Settings, load_session: LoadSession | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return. A second signal does not wait for the calls under way.

    Args:
        settings: What to serve, and how.
        load_session: Loads the model; ONNX Runtime without it.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the model, the catalogue or the address cannot be had.
    """
    stop = asyncio.Event()
    serving = asyncio.current_task()
    assert serving is not None  # noqa: S101 - a coroutine runs in a task

    def on_signal() -> None:
        # Nothing to finish while starting, and a second signal does not wait for what is left to finish.
        if stop.is_set() or not ready.is_set():
            serving.cancel()
        stop.set()

    ready = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    try:
        async with running(settings, load_session=load_session):
            ready.set()
            await stop.wait()
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    structlog.get_logger().info("stopped")


@asynccontextmanager
async def running(
    settings: Settings, *, observer: Observer | None = None, load_session: LoadSession | None = None
) -> AsyncIterator[App]:
    """A server for as long as the block runs: SERVING inside it, drained and closed after it.

    Args:
        settings: What to serve, and how.
        observer: Told what happens; the log without it.
        load_session: Loads the model; ONNX Runtime without it.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the model, the catalogue or the address cannot be had.
    """
    log = structlog.get_logger()
    observer = observer or LogObserver()
    async with AsyncExitStack() as stack:
        # Open: listen at once, so that health can say NOT_SERVING while the rest loads.
        gate = Gate()
        server = rpc_server(settings, gate, observer)
        port = await server.start(settings.listen)
        stack.push_async_callback(server.stop)

        loaded = await stack.enter_async_context(loading(settings, observer, load_session))
        gate.open(loaded.engine)
        await server.open()
        plan = loaded.plan
        log.info(
            "serving",
            port=port,
            listen=settings.listen,
            provider=plan.lane.provider,
            model=loaded.engine.model.name,
            lanes=plan.lanes,
            lane_batch=plan.lane_batch,
        )
        try:
            yield App(port, loaded.engine, loaded.batcher, loaded.index, server)
        finally:
            # Drain; what the stack holds is closed after it, last opened first.
            log.info("draining", seconds=settings.drain_seconds)
            if not await server.drain(settings.drain_seconds):
                log.warning("some calls did not finish in time and are cancelled")
            await server.stop()


def rpc_server(settings: Settings, gate: Gate, observer: Observer, *, shares_port: bool = False) -> RpcServer:
    """A gRPC server in front of this gate.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the tokens cannot be read.
    """
    return RpcServer(
        gate,
        Authenticator(read_tokens(settings.tokens) if settings.tokens else None),
        observer,
        max_message_bytes=settings.max_message_bytes,
        default_deadline_seconds=settings.default_deadline_seconds,
        shares_port=shares_port,
    )


@asynccontextmanager
async def loading(
    settings: Settings, observer: Observer, load_session: LoadSession | None = None
) -> AsyncIterator[Loaded]:
    """An engine for as long as the block runs, every shape of it warm; without any gRPC.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the model or the catalogue cannot be had.
    """
    log = structlog.get_logger()
    async with AsyncExitStack() as stack:
        # Load and warm, in a thread: health is asked meanwhile.
        folder = await asyncio.to_thread(read_model_folder, settings.model)
        model = folder.model
        log.info("loading", model=model.name, backbone=model.backbone, weights=model.weights, dim=model.dim)
        if model.weights.startswith("random"):
            log.warning("random weights: answers mean nothing, this model is for load tests", weights=model.weights)
        # In a thread of lower priority: those that ONNX Runtime starts for the model inherit it.
        with ThreadPoolExecutor(1, initializer=lower_priority, initargs=(settings.model_nice,)) as loader:
            plan = await asyncio.get_running_loop().run_in_executor(loader, plan_model, folder, settings, load_session)
        index = PartitionedIndex(
            PartitionSettings(
                dim=model.dim,
                metric=model.metric,
                flat_limit=settings.flat_limit,
                hnsw=HnswSettings(
                    settings.hnsw_m, settings.hnsw_ef_construction, settings.hnsw_ef_search, settings.hnsw_numbers
                ),
                segment_rows=settings.segment_rows,
            ),
            observer,
            settings.recall_share,
        )
        store = await asyncio.to_thread(Store, settings.data, model, index.apply)
        stack.push_async_callback(asyncio.to_thread, store.close)
        # Before the store: it writes what graphs are kept.
        stack.push_async_callback(asyncio.to_thread, index.close)
        try:
            rows = await asyncio.to_thread(index.open, store, settings.data / INDEX_FOLDER)
        except Failure as error:
            raise LookalikeError(
                Code.FAILED_PRECONDITION,
                f"cannot read the catalogue in {settings.data}: {error}; `lookalike-server verify` says what is broken,"
                " and a backup takes its place",
            ) from error
        log.info("catalogue opened", folder=str(settings.data), rows=rows, sqlite=VERSION)

        batcher = MicroBatcher(
            plan,
            max_queue=settings.max_queue,
            bulk_wait=settings.bulk_wait_seconds,
            observer=observer,
            nice=settings.model_nice,
        )
        stack.push_async_callback(batcher.close)
        engine = Engine(
            model=model,
            runtime=Runtime(plan.lane.provider, plan.ladder),
            embedder=PhotoEmbedder(
                photo_reader(settings, model),
                batcher,
                Reuse(settings.cache_bytes, observer),
                stack.enter_context(pool(settings.decode_threads, "decoder")),
                time.monotonic,
                settings.keep_picture_bytes,
            ),
            index=index,
            store=store,
            searchers=stack.enter_context(pool(settings.search_threads, "searcher")),
            bulk_photos=min(2 * settings.max_batch, settings.max_queue),
            observer=observer,
            clock=time.monotonic,
        )

        # What was built until here stays: the garbage collector need not look through it again and again.
        gc.collect()
        gc.freeze()
        stack.callback(gc.unfreeze)
        yield Loaded(engine, batcher, index, plan)


def photo_reader(settings: Settings, model: Model) -> PhotoReader:
    """What makes photos input of this model, within the settings' limits."""
    return PhotoReader(model.height, model.width, model.resize, settings.max_image_bytes, settings.max_image_pixels)


def pool(threads: int, name: str) -> ThreadPoolExecutor:
    """So many threads; one a core for 0."""
    return ThreadPoolExecutor(threads or os.cpu_count() or 1, thread_name_prefix=name)
