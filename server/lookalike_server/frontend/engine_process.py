"""The process with the model, the batcher, the index and the store; it answers workers and hears of no gRPC."""

from __future__ import annotations

import asyncio

import structlog

from lookalike_server.app import loading
from lookalike_server.config import Settings
from lookalike_server.engine.model_loading import LoadSession
from lookalike_server.frontend.control_channel import OPEN, ControlChannel
from lookalike_server.frontend.ipc_server import IpcServer
from lookalike_server.telemetry import LogObserver

_MOST_QUEUED = 1024
"""Rows for the queue: beyond, images go as messages. Untouched rows take no memory."""


async def answer_workers(settings: Settings, load_session: LoadSession | None, control: ControlChannel) -> None:
    """Load, answer whichever workers the supervisor connects, and close everything when it says so.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the model or the catalog cannot be had.
    """
    control.listen()
    answering = asyncio.ensure_future(_answer(settings, load_session, control))
    stopping = asyncio.ensure_future(control.draining.wait())
    await asyncio.wait((answering, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    answering.cancel()
    try:
        await answering
    except asyncio.CancelledError:
        structlog.get_logger().info("engine_closed")


async def _answer(settings: Settings, load_session: LoadSession | None, control: ControlChannel) -> None:
    async with loading(settings, LogObserver(), load_session) as loaded:
        plan, engine = loaded.plan, loaded.engine
        structlog.get_logger().info(
            "ready",
            provider=plan.throughput_session.provider,
            model=engine.model.name,
            max_concurrent_batches=plan.max_concurrent_batches,
            preferred_batch_size=plan.preferred_batch_size,
        )
        control.tell(OPEN)
        running = plan.preferred_batch_size * (plan.max_concurrent_batches + plan.prefetch)
        rows = min(settings.max_queue_size, _MOST_QUEUED) + running + engine.stream_window
        hosts: set[IpcServer] = set()
        try:
            while True:
                worker = await control.connection()
                host = IpcServer(engine, hosts.discard)
                try:
                    await host.start(worker, rows)
                except OSError:
                    worker.close()  # it has ended meanwhile
                else:
                    hosts.add(host)
        finally:
            for host in hosts:
                host.close()
