"""The composition root: open, load, warm, serve, drain, close. The only place that builds the stages.

Tests use it too, with port 0, a temporary folder and a session of their own.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from lookalike_server.config import Settings
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.events import CatalogDamaged, Observer
from lookalike_server.domain.inference import Model
from lookalike_server.domain.observing import Observers
from lookalike_server.engine.engine import Engine
from lookalike_server.engine.graph_library import check_graph_library
from lookalike_server.engine.model_loading import LoadSession
from lookalike_server.engine.runtime_choice import plan_model
from lookalike_server.engine.search_device import OpenSearchDevice, open_search_device
from lookalike_server.index.category_index import CategoryIndex
from lookalike_server.index.graph import HnswSettings
from lookalike_server.index.scan_rate import rows_compared_in
from lookalike_server.index.segment import PartitionSettings
from lookalike_server.inference.batcher import MicroBatcher
from lookalike_server.inference.decoding_pool import DecodingPool
from lookalike_server.inference.embedder import ImageEmbedder
from lookalike_server.inference.embedding_cache import EmbeddingCache
from lookalike_server.inference.image_cost import PixelLimits
from lookalike_server.inference.image_decoding import ImageDecoder
from lookalike_server.inference.manifest import read_model_folder
from lookalike_server.inference.plan import Plan
from lookalike_server.inference.processor import available_cores
from lookalike_server.metrics_assembly import metrics_listener
from lookalike_server.priority import lower_priority
from lookalike_server.reloading import Reloads
from lookalike_server.rpc.gate import Gate
from lookalike_server.rpc.server import RpcServer
from lookalike_server.rpc_assembly import listen_address, rpc_server
from lookalike_server.store.catalog_check import CatalogCheck
from lookalike_server.store.catalog_store import Store
from lookalike_server.store.damage import REMEDY, DamagedFileError
from lookalike_server.store.sqlite import SQLITE_VERSION, SqliteError
from lookalike_server.telemetry import LogObserver, configure_log
from lookalike_server.tracing.environment import flush_seconds, open_tracing
from lookalike_server.watchdog.thread import Watchdog

if TYPE_CHECKING:
    from lookalike_server.metrics.metrics import Metrics

_WAITING_ROWS_SECONDS = 0.0005  # for which a search may compare rows that wait for a graph
_CATCH_UP_SECONDS = 2.0  # without a change, after which no row waits for a graph any more
_GARBAGE_OBJECTS = 50_000  # new objects after which cycles are looked for; of a call five remain, which are grpcio's

INDEX_FOLDER = "index"
"""The folder of the index's graphs, in the catalog's folder."""


@dataclass(frozen=True, slots=True)
class App:
    """A running server: its ports, the parts that a test may want to look at, and what receives their events."""

    port: int
    engine: Engine
    batcher: MicroBatcher
    index: CategoryIndex
    server: RpcServer
    observer: Observer
    metrics_port: int | None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A ready engine, and its parts."""

    engine: Engine
    batcher: MicroBatcher
    index: CategoryIndex
    plan: Plan


async def serve(
    settings: Settings, load_session: LoadSession | None = None, read_settings: Callable[[], Settings] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return. A second signal cuts what is under way; SIGHUP reloads.

    Args:
        settings: What to serve, and how.
        load_session: Loads the model; ONNX Runtime without it.
        read_settings: Reads the settings again, for those that can be reloaded; without it they stay.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the model, the catalog or the address cannot be used.
    """
    stop = asyncio.Event()
    serving = asyncio.current_task()
    assert serving is not None  # noqa: S101 - a coroutine runs in a task
    lame_duck = 0.0
    reloads = Reloads()
    if read_settings is not None:
        reloads.add("log_level", lambda: configure_log(settings.log_format, read_settings().log_level))

    def on_signal(number: signal.Signals) -> None:
        nonlocal lame_duck
        # While starting there are no calls to finish, and a second signal does not wait for them.
        if stop.is_set() or not ready.is_set():
            serving.cancel()
        elif number == signal.SIGTERM:
            lame_duck = settings.lame_duck_seconds
        stop.set()

    ready = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, partial(on_signal, number))
    loop.add_signal_handler(signal.SIGHUP, reloads.run)
    try:
        with Watchdog() as watchdog:
            async with running(settings, load_session=load_session, reloads=reloads) as app:
                watchdog.log_stalls()
                watchdog.report_lag(app.observer)
                report_hang = partial(_report_hang, app.server, loop)
                watchdog.watch_gpu(app.batcher.runs, report_hang)
                if settings.watchdog:
                    watchdog.arm(app.batcher.runs, report_hang, exits_on_stall=True)
                ready.set()
                await stop.wait()
                structlog.get_logger().info("lame_duck", seconds=lame_duck)
                await app.server.announce_drain(lame_duck)
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    structlog.get_logger().info("stopped")


def _report_hang(server: RpcServer, loop: asyncio.AbstractEventLoop, hung: bool) -> None:
    """Pass on from the watchdog's thread whether a run hangs."""
    loop.call_soon_threadsafe(partial(server.report_hang, hung=hung))


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    observer: Observer | None = None,
    load_session: LoadSession | None = None,
    reloads: Reloads | None = None,
    metrics: Metrics | None = None,
    open_device: OpenSearchDevice = open_search_device,
) -> AsyncIterator[App]:
    """Run a server while the block runs: SERVING inside it, drained and closed after it, or cut where that raises.

    Args:
        settings: What to serve, and how.
        observer: Receives what happens; the log without it.
        load_session: Loads the model; ONNX Runtime without it.
        reloads: Where to add what can be reloaded; nothing is without it.
        metrics: Count what happens too, and get what there is to read; made where the settings ask for metrics.
        open_device: Opens what searches besides the CPU.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the model, the catalog or the address cannot be used.
    """
    log = structlog.get_logger()
    async with AsyncExitStack() as stack:
        if observer is None:
            log_observer = observer = LogObserver()
            stack.callback(log_observer.flush)
            if reloads is not None:
                reloads.add("observer", log_observer.reconfigure)
        # Listen at once, so that health can say NOT_SERVING while the rest loads.
        gate = Gate()
        address = listen_address(settings)
        listener = stack.enter_context(metrics_listener(settings, address))
        if listener is not None and metrics is None:
            from lookalike_server.metrics.metrics import Metrics  # takes a while to import

            metrics = Metrics()
        if metrics is not None:
            observer = Observers(observer, metrics)
        begin_span = None
        if (tracing := open_tracing(observer)) is not None:
            seconds = flush_seconds(settings.shutdown_grace_seconds)
            # Where a second signal cuts what is under way, that is cut too.
            stack.push_async_exit(lambda cut, *_: tracing.close(0.0 if cut else seconds))
            observer, begin_span = Observers(observer, tracing), tracing.begin
        server = rpc_server(settings, gate, observer, begin_span)
        if metrics is not None:
            metrics.attach_server(server)
        if listener is not None and metrics is not None:
            from lookalike_server.monitoring.serving import serving_metrics, source_of

            source = source_of(metrics.registry)
            await stack.enter_async_context(
                serving_metrics(listener.address, listener.sockets, source, lambda: server.readiness)
            )
        if reloads is not None:
            reloads.add("credentials", server.reload_credentials)
        port = await server.start(address)
        stack.push_async_callback(server.stop)

        loop = asyncio.get_running_loop()
        on_damage = partial(loop.call_soon_threadsafe, partial(server.report_damage, damaged=True))
        loaded = await stack.enter_async_context(loading(settings, observer, load_session, on_damage, open_device))
        if metrics is not None:
            metrics.attach_engine(loaded.engine, loaded.index, settings.data_dir)
        gate.open(loaded.engine)
        await server.open()
        plan = loaded.plan
        log.info(
            "serving",
            **address.log_fields(port),
            listen=settings.listen,
            provider=loaded.engine.runtime.provider,
            library=loaded.engine.runtime.library,
            precision=loaded.engine.runtime.precision,
            parity=str(loaded.engine.runtime.parity or "") or None,
            model=loaded.engine.model.name,
            max_concurrent_batches=plan.max_concurrent_batches,
            preferred_batch_size=plan.preferred_batch_size,
        )
        try:
            yield App(
                port, loaded.engine, loaded.batcher, loaded.index, server, observer, listener.port if listener else None
            )
            log.info("draining", seconds=settings.shutdown_grace_seconds)
            if not await server.drain(settings.shutdown_grace_seconds):
                log.warning("shutdown_grace_exceeded")
        finally:
            # The stack closes what it holds after this, last opened first.
            await server.stop()


@asynccontextmanager
async def loading(
    settings: Settings,
    observer: Observer,
    load_session: LoadSession | None = None,
    on_damage: Callable[[], object] = lambda: None,
    open_device: OpenSearchDevice = open_search_device,
) -> AsyncIterator[Loaded]:
    """Run an engine while the block runs, with the model warm in every batch size; without gRPC.

    Args:
        settings: What to serve, and how.
        observer: Receives what happens.
        load_session: Loads the model; ONNX Runtime without it.
        on_damage: Called once the catalog turns out to be damaged, in any thread.
        open_device: Opens what searches besides the CPU.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the model, GPU, library of graphs or catalog cannot be used.
    """
    log = structlog.get_logger()
    check_graph_library(settings.graph_library)
    async with AsyncExitStack() as stack:
        # In threads, because health must be answered meanwhile.
        folder = await asyncio.to_thread(read_model_folder, settings.model)
        model = folder.model
        log.info("model_loading", model=model.name, backbone=model.backbone, weights=model.weights, dim=model.dim)
        if model.weights.startswith("random"):
            log.warning("random_weights", weights=model.weights)
        device = await asyncio.to_thread(open_device, settings, model)
        # In a thread of lower priority, which the threads that ONNX Runtime starts for the model inherit.
        with ThreadPoolExecutor(1, initializer=lower_priority, initargs=(settings.inference_nice,)) as loader:
            planned = await asyncio.get_running_loop().run_in_executor(
                loader, plan_model, folder, settings, load_session
            )
        plan = planned.plan
        index = CategoryIndex(
            PartitionSettings(
                dim=model.dim,
                metric=model.metric,
                full_scan_threshold=settings.full_scan_threshold,
                hnsw=HnswSettings(
                    settings.hnsw_m, settings.hnsw_ef_construction, settings.hnsw_ef_search, settings.graph_library
                ),
                max_segment_rows=settings.max_segment_rows,
                catch_up_seconds=_CATCH_UP_SECONDS,
                device=device,
                max_waiting_rows=await asyncio.to_thread(rows_compared_in, _WAITING_ROWS_SECONDS, model.dim),
            ),
            observer,
            settings.recall_sample_rate,
            available_cores(),
        )

        def report_damage(error: Exception) -> None:
            observer(CatalogDamaged(error, REMEDY))
            on_damage()

        store = await asyncio.to_thread(
            Store,
            settings.data_dir,
            model,
            index.apply,
            product_cache_bytes=settings.product_cache_bytes,
            on_damage=report_damage,
            observer=observer,
        )
        stack.push_async_callback(asyncio.to_thread, store.close)
        if store.is_open_to_others:
            log.warning("data_dir_open_to_others", remedy=f"chmod 700 {settings.data_dir}")
        # Closed before the store, in which it records its graphs.
        stack.push_async_callback(asyncio.to_thread, index.close)
        try:
            rows = await asyncio.to_thread(index.open, store, settings.data_dir / INDEX_FOLDER)
        except (SqliteError, DamagedFileError) as error:
            raise LookalikeError(
                Code.FAILED_PRECONDITION,
                f"cannot read the catalog in {settings.data_dir}: {error.args[0]}; {REMEDY}",
            ) from error
        log.info("catalog_opened", folder=str(settings.data_dir), rows=rows, sqlite=SQLITE_VERSION)

        batcher = MicroBatcher(
            plan,
            max_queue_size=settings.max_queue_size,
            bulk_wait=settings.bulk_max_wait_seconds,
            observer=observer,
            nice=settings.inference_nice,
            run_timeout=settings.run_timeout_seconds,
        )
        stack.push_async_callback(batcher.close)
        decode_threads = settings.decode_threads or available_cores()
        decoding = DecodingPool(
            stack.enter_context(pool(decode_threads, "decoder")),
            decode_threads,
            settings.max_decoding_bytes,
            settings.bulk_max_wait_seconds,
            observer=observer,
        )
        search_threads = settings.search_threads or available_cores()
        engine = Engine(
            model=model,
            runtime=planned.runtime,
            embedder=ImageEmbedder(
                image_decoder(settings, model),
                batcher,
                EmbeddingCache(settings.embedding_cache_bytes, observer),
                decoding,
                settings.max_stored_image_bytes,
            ),
            index=index,
            store=store,
            decode=decoding.queue,
            batcher=batcher,
            searchers=stack.enter_context(pool(search_threads, "searcher")),
            search_threads=search_threads,
            bulk_images=min(2 * settings.max_batch_size, settings.max_queue_size),
            observer=observer,
            clock=time.monotonic,
        )

        check = CatalogCheck(store, index, observer)
        stack.push_async_callback(asyncio.to_thread, check.close)
        check.start()

        # What was built until here stays, so the garbage collector need not scan it again and again; and calls leave
        # hardly any cycles, so it need not look for them every dozen calls.
        gc.collect()
        gc.freeze()
        stack.callback(gc.unfreeze)
        stack.callback(gc.set_threshold, *gc.get_threshold())
        gc.set_threshold(_GARBAGE_OBJECTS)
        yield Loaded(engine, batcher, index, plan)


def image_decoder(settings: Settings, model: Model) -> ImageDecoder:
    """Make a decoder to this model's input, with the settings' limits."""
    limits = PixelLimits(
        progressive_jpeg=settings.max_progressive_jpeg_pixels,
        png=settings.max_png_pixels,
        interlaced_png=settings.max_interlaced_png_pixels,
        webp=settings.max_webp_pixels,
        avif=settings.max_avif_pixels,
        heic=settings.max_heic_pixels,
    )
    return ImageDecoder.of_model(model, settings.max_image_bytes, settings.max_image_pixels, limits)


def pool(threads: int, name: str) -> ThreadPoolExecutor:
    """Make a pool of so many threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix=name)
