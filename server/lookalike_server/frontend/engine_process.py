"""The process with the model, the batcher, the index and the store. It serves the frontend processes, not gRPC."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import structlog

from lookalike_server.app import loading
from lookalike_server.config import Settings
from lookalike_server.domain.observing import Observers
from lookalike_server.engine.model_loading import LoadSession
from lookalike_server.frontend.control_channel import READY, ControlChannel
from lookalike_server.frontend.counting import counting
from lookalike_server.frontend.ipc_server import IpcServer
from lookalike_server.frontend.shared_snapshots import SharedSnapshots
from lookalike_server.telemetry import LogObserver
from lookalike_server.tracing.environment import flush_seconds, open_tracing
from lookalike_server.watchdog.beats import ENGINE, Beats
from lookalike_server.watchdog.thread import Watchdog

_MAX_QUEUE_SLOTS = 1024
"""Slots of shared memory for queued images; further images go as messages. Untouched slots take no memory."""


async def run_engine(
    settings: Settings,
    load_session: LoadSession | None,
    beats: Beats,
    snapshots: SharedSnapshots | None,
    control: ControlChannel,
    watchdog: Watchdog,
) -> None:
    """Load, serve every frontend that the supervisor connects, and close everything when it says so.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the model or the catalog cannot be loaded.
    """
    control.start()
    serving = asyncio.ensure_future(_serve(settings, load_session, beats, snapshots, control, watchdog))
    draining = asyncio.ensure_future(control.draining.wait())
    await asyncio.wait((serving, draining), return_when=asyncio.FIRST_COMPLETED)
    draining.cancel()
    serving.cancel()
    try:
        await serving
    except asyncio.CancelledError:
        structlog.get_logger().info("engine_closed")


async def _serve(
    settings: Settings,
    load_session: LoadSession | None,
    beats: Beats,
    snapshots: SharedSnapshots | None,
    control: ControlChannel,
    watchdog: Watchdog,
) -> None:
    log_observer = LogObserver()
    control.reloads.add("observer", log_observer.reconfigure)
    async with AsyncExitStack() as stack:
        stack.callback(log_observer.flush)
        observer, metrics = await stack.enter_async_context(counting(log_observer, snapshots, ENGINE))
        if (tracing := open_tracing(observer)) is not None:
            stack.push_async_callback(tracing.close, flush_seconds(settings.shutdown_grace_seconds))
            observer = Observers(observer, tracing)
        on_damage = partial(beats.report_damage, ENGINE)
        loaded = await stack.enter_async_context(loading(settings, observer, load_session, on_damage))
        plan, engine = loaded.plan, loaded.engine
        if metrics is not None:
            metrics.attach_engine(engine, loaded.index, settings.data_dir)
        structlog.get_logger().info(
            "ready",
            provider=plan.throughput_session.provider,
            model=engine.model.name,
            max_concurrent_batches=plan.max_concurrent_batches,
            preferred_batch_size=plan.preferred_batch_size,
        )
        watchdog.log_stalls()
        watchdog.report_lag(observer)
        report_hang = partial(beats.report_hang, ENGINE)
        watchdog.watch_gpu(loaded.batcher.runs, report_hang)
        if settings.watchdog:
            watchdog.arm(loaded.batcher.runs, report_hang, exits_on_stall=False)
        control.report(READY)
        running = plan.preferred_batch_size * (plan.max_concurrent_batches + plan.prefetch)
        slots = min(settings.max_queue_size, _MAX_QUEUE_SLOTS) + running + engine.stream_window
        servers: set[IpcServer] = set()
        try:
            while True:
                frontend = await control.connection()
                server = IpcServer(engine, servers.discard)
                try:
                    await server.start(frontend, slots)
                except OSError:
                    frontend.close()  # the frontend has ended meanwhile
                else:
                    servers.add(server)
        finally:
            for server in servers:
                server.close()
