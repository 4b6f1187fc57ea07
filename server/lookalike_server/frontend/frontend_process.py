"""A process that takes calls on the shared port, decodes their images, and calls the engine process."""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from lookalike_server.app import image_decoder, pool
from lookalike_server.config import Settings
from lookalike_server.domain.observing import Observers
from lookalike_server.frontend.control_channel import READY, ControlChannel
from lookalike_server.frontend.counting import counting
from lookalike_server.frontend.ipc_client import IpcEngine
from lookalike_server.frontend.shared_snapshots import SharedSnapshots
from lookalike_server.frontend.watching import watch_others
from lookalike_server.inference.decoding_pool import DecodingPool
from lookalike_server.inference.processor import available_cores
from lookalike_server.rpc.gate import Gate
from lookalike_server.rpc.listening import Address
from lookalike_server.rpc.server import RpcServer
from lookalike_server.rpc_assembly import rpc_server
from lookalike_server.telemetry import LogObserver
from lookalike_server.tracing.environment import flush_seconds, open_tracing
from lookalike_server.watchdog.beats import Beats
from lookalike_server.watchdog.thread import Watchdog


async def run_frontend(
    settings: Settings,
    address: Address,
    beats: Beats,
    slot: int,
    snapshots: SharedSnapshots | None,
    control: ControlChannel,
    watchdog: Watchdog,
) -> None:
    """Listen at once, serve while the engine process is there, and drain when the supervisor says so.

    Args:
        settings: What to serve, and how.
        address: Where to take calls.
        beats: Of all processes; this one's readiness goes there.
        slot: Of this process.
        snapshots: Where its metrics go; without them nothing is counted.
        control: The channel to the supervisor.
        watchdog: Of this process.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the address or the authentication keys cannot be used.
    """
    control.start()
    watchdog.log_stalls()  # the supervisor does the rest
    log_observer = LogObserver()
    control.reloads.add("observer", log_observer.reconfigure)
    async with counting(log_observer, snapshots, slot) as (observer, metrics):
        watchdog.report_lag(observer)
        begin_span = None
        if (tracing := open_tracing(observer)) is not None:
            observer, begin_span = Observers(observer, tracing), tracing.begin
        gate = Gate()
        server = rpc_server(settings, gate, observer, begin_span, shares_port=True)
        server.on_readiness = partial(beats.report_readiness, slot)
        control.reloads.add("credentials", server.reload_credentials)
        await server.start(address)
        threads = settings.decode_threads or max(1, available_cores() // settings.frontend_processes)
        with pool(threads, "decoder") as decode_threads:
            max_bytes = settings.max_decoding_bytes // settings.frontend_processes
            decoding = DecodingPool(
                decode_threads, threads, max_bytes, settings.bulk_max_wait_seconds, observer=observer
            )
            if metrics is not None:
                metrics.attach_server(server)
                metrics.attach_decoding(decoding.queue)
            engine = IpcEngine(lambda model: image_decoder(settings, model), decoding, observer)
            await _serve_until_drained(gate, server, engine, settings, beats, control)
        if tracing is not None:
            await tracing.close(0.0 if control.stopping.is_set() else flush_seconds(settings.shutdown_grace_seconds))
        log_observer.flush()


async def _serve_until_drained(
    gate: Gate, server: RpcServer, engine: IpcEngine, settings: Settings, beats: Beats, control: ControlChannel
) -> None:
    serving = asyncio.create_task(_serve(gate, server, engine, control))
    watching = asyncio.create_task(watch_others(beats, lambda: gate.is_ready, server.report_hang, server.report_damage))
    draining = asyncio.create_task(control.draining.wait())
    await asyncio.wait((serving, draining), return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()  # raises: it only ends by an error, and this process with it
    stopping = asyncio.create_task(control.stopping.wait())
    finishing = asyncio.create_task(_drain(server, settings, control))
    await asyncio.wait((stopping, finishing), return_when=asyncio.FIRST_COMPLETED)
    finishing.cancel()
    serving.cancel()
    if gate.inside:
        structlog.get_logger().warning("shutdown_grace_exceeded")
    await server.stop()
    watching.cancel()


async def _drain(server: RpcServer, settings: Settings, control: ControlChannel) -> None:
    await server.announce_drain(control.lame_duck_seconds)
    await server.drain(settings.shutdown_grace_seconds)


async def _serve(gate: Gate, server: RpcServer, engine: IpcEngine, control: ControlChannel) -> None:
    log = structlog.get_logger()
    while True:
        if not await engine.connect(await control.connection()):
            continue
        gate.open(engine)
        await server.open()
        control.report(READY)
        await engine.disconnected.wait()
        gate.suspend()
        await server.suspend()
        log.warning("engine_process_lost")
