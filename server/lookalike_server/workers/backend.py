"""The process with the model, the batcher, the index and the store; it answers workers and hears of no gRPC."""

from __future__ import annotations

import asyncio

import structlog

from lookalike_server.app import loading
from lookalike_server.config import Settings
from lookalike_server.model import LoadSession
from lookalike_server.telemetry import LogObserver
from lookalike_server.workers.control import OPEN, Control
from lookalike_server.workers.host import Host

_MOST_QUEUED = 1024
"""Rows for the queue: beyond, photos go as messages. Untouched rows take no memory."""


async def answer_workers(settings: Settings, load_session: LoadSession | None, control: Control) -> None:
    """Load, answer whichever workers the supervisor connects, and close everything when it says so.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the model or the catalogue cannot be had.
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
        structlog.get_logger().info("closed")


async def _answer(settings: Settings, load_session: LoadSession | None, control: Control) -> None:
    async with loading(settings, LogObserver(), load_session) as loaded:
        plan, engine = loaded.plan, loaded.engine
        structlog.get_logger().info(
            "ready",
            provider=plan.lane.provider,
            model=engine.model.name,
            lanes=plan.lanes,
            lane_batch=plan.lane_batch,
        )
        control.tell(OPEN)
        running = plan.lane_batch * (plan.lanes + plan.ahead)
        rows = min(settings.max_queue, _MOST_QUEUED) + running + engine.stream_window
        hosts: set[Host] = set()
        try:
            while True:
                worker = await control.connection()
                host = Host(engine, hosts.discard)
                try:
                    await host.start(worker, rows)
                except OSError:
                    worker.close()  # it has ended meanwhile
                else:
                    hosts.add(host)
        finally:
            for host in hosts:
                host.close()
