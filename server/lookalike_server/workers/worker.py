"""A worker: takes calls on the shared port, decodes, and asks the process with the model."""

from __future__ import annotations

import asyncio
import os

import structlog

from lookalike_server.app import photo_reader, pool, rpc_server
from lookalike_server.config import Settings
from lookalike_server.rpc.gate import Gate
from lookalike_server.rpc.server import RpcServer
from lookalike_server.telemetry import LogObserver
from lookalike_server.workers.control import OPEN, Control
from lookalike_server.workers.remote import RemoteEngine


async def take_calls(settings: Settings, address: str, control: Control) -> None:
    """Listen at once, serve while there is an engine to ask, and drain when the supervisor says so.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the address or the tokens cannot be had.
    """
    log = structlog.get_logger()
    control.listen()
    observer = LogObserver()
    gate = Gate()
    server = rpc_server(settings, gate, observer, shares_port=True)
    await server.start(address)
    threads = settings.decode_threads or max(1, (os.cpu_count() or 1) // settings.workers)
    with pool(threads, "decoder") as decoders:
        engine = RemoteEngine(lambda model: photo_reader(settings, model), decoders, observer)
        serving = asyncio.create_task(_serve(gate, server, engine, control))
        stopping = asyncio.create_task(control.draining.wait())
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()  # it only ends by a fault, and this process with it
        serving.cancel()
        hurried = asyncio.create_task(control.now.wait())
        draining = asyncio.create_task(server.drain(settings.drain_seconds))
        await asyncio.wait((hurried, draining), return_when=asyncio.FIRST_COMPLETED)
        if gate.inside:
            log.warning("some calls did not finish in time and are cancelled")
        await server.stop()


async def _serve(gate: Gate, server: RpcServer, engine: RemoteEngine, control: Control) -> None:
    log = structlog.get_logger()
    while True:
        if not await engine.connect(await control.connection()):
            continue
        gate.open(engine)
        await server.open()
        control.tell(OPEN)
        await engine.lost.wait()
        gate.shut()
        await server.shut()
        log.warning("the process with the model is gone; calls are refused until it is back")
