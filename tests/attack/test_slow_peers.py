"""Peers that hold connections and calls open for nothing disturb nobody, and cost bounded memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from h2.settings import SettingCodes

from lookalike.v1 import catalog_service_pb2, catalog_service_pb2_grpc
from support.attack.honest import HonestCaller
from support.attack.memory import MIB, growth
from support.attack.peer import EMBED, ConnectionClosedError, Peer, data, message
from support.attack.scene import CALLS, MAX_GROWTH, SECONDS, attacked_server
from support.processes import ServerProcess
from support.serving import connect, noise, product, raw

# Honest callers would be late beside the attacks of another test.
pytestmark = [pytest.mark.slow, pytest.mark.serial]

STREAMS = 10_000
PEERS = 100
UPSERT = "/lookalike.v1.CatalogService/UpsertProducts"
EMBED_STREAM = "/lookalike.v1.EmbeddingService/EmbedStream"
EXPORT = "/lookalike.v1.CatalogService/ExportProducts"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Run a server whose keepalive is short."""
    with attacked_server(tmp_path / "data", "--keepalive-seconds", "1", "--max-connections", "400") as started:
        yield started


@pytest.fixture
def honest(server: ServerProcess) -> Iterator[HonestCaller]:
    """Call beside the attack."""
    with HonestCaller(server.address) as caller:
        yield caller


def peers(stack: ExitStack, address: str, count: int) -> list[Peer]:
    """Open connections that are closed with the stack."""
    opened = [Peer(address) for _ in range(count)]
    for peer in opened:
        stack.callback(peer.close)
    return opened


@pytest.mark.parametrize("method", [EMBED, UPSERT, EMBED_STREAM])
def test_streams_that_send_nothing(server: ServerProcess, honest: HonestCaller, method: str) -> None:
    """10,000 calls over 100 connections that send no message leave honest callers alone, once they have been taken.

    The event loop takes calls in the order in which they came, so those behind the burst wait for it.
    """
    with ExitStack() as stack, growth(server.process.pid) as grown:
        for peer in peers(stack, server.address, PEERS):
            peer.send(peer.headers(peer.open_stream(), method) for _ in range(STREAMS // PEERS))
        honest.served_again()
        honest.forget()
        honest.made(CALLS)
        assert honest.share == 1, repr(honest)
    assert grown.peak <= MAX_GROWTH


def test_half_a_message_then_silence(server: ServerProcess, honest: HonestCaller) -> None:
    """Calls that announce 8 MB and send 40 KB of it leave honest callers alone, and are not given 8 MB each."""
    with ExitStack() as stack, growth(server.process.pid) as grown:
        for peer in peers(stack, server.address, PEERS):
            stream = peer.open_stream()
            peer.send([peer.headers(stream, UPSERT), *data(stream, message(bytes(8 * MIB))[:40_000])])
        honest.made(CALLS)
        assert honest.share == 1, repr(honest)
    assert grown.peak <= MAX_GROWTH


def test_one_byte_at_a_time(server: ServerProcess, honest: HonestCaller) -> None:
    """A hundred callers that send a byte for each call of an honest one leave it alone."""
    body = message(bytes(1000))
    with ExitStack() as stack, growth(server.process.pid) as grown:
        slow = peers(stack, server.address, PEERS)
        for peer in slow:
            peer.send([peer.headers(peer.open_stream())])
        for at in range(CALLS):
            for peer in slow:
                try:
                    peer.send(data(1, body[at : at + 1]))
                except ConnectionClosedError:
                    continue  # cut off, as it may be
            honest.made(1)
        assert honest.share == 1, repr(honest)
    assert grown.peak <= MAX_GROWTH


@pytest.mark.parametrize("reads", [False, True], ids=["never reads", "acknowledges pings"])
async def test_reader_without_a_window(server: ServerProcess, honest: HonestCaller, reads: bool) -> None:
    """A hundred exports that nobody reads are not built in memory; honest callers are left alone.

    But for the moment in which all hundred begin, each of which reads its first page.
    """
    async with connect(server.address) as channel:
        catalog: Any = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        for first in range(0, 1000, 100):
            products = [product(f"p{at}", at) for at in range(first, first + 100)]
            for each in products:
                each.images[0].CopyFrom(raw(noise(first, side=64)))
            await catalog.UpsertProducts(catalog_service_pb2.UpsertProductsRequest(products=products))
    request = catalog_service_pb2.ExportProductsRequest().SerializeToString()

    def attack() -> None:
        with ExitStack() as stack:
            readers = [Peer(server.address, settings={SettingCodes.INITIAL_WINDOW_SIZE: 0}) for _ in range(PEERS)]
            for peer in readers:
                stack.callback(peer.close)
                stream = peer.open_stream()
                peer.send([peer.headers(stream, EXPORT), *data(stream, message(request), end=True)])
            honest.served_again()
            honest.forget()
            for _ in range(CALLS):
                for peer in readers if reads else ():
                    peer.receive()
                honest.made(1)
            assert honest.share == 1, repr(honest)

    with growth(server.process.pid) as grown:
        await asyncio.to_thread(attack)
    assert grown.peak <= MAX_GROWTH


def test_connections_beyond_the_limit_are_closed(server: ServerProcess, honest: HonestCaller) -> None:
    """Beyond `max_connections` new ones are closed at once; callers that are connected stay served."""
    host, _, port = server.address.rpartition(":")
    with ExitStack() as stack, growth(server.process.pid) as grown:
        opened = [stack.enter_context(socket.create_connection((host, int(port)), 10)) for _ in range(600)]
        honest.made(CALLS)
        assert honest.share == 1, repr(honest)
        with pytest.raises(ConnectionClosedError):
            Peer(server.address)
        # The last one was rejected: it is closed without a word.
        opened[-1].settimeout(10)
        assert _is_closed(opened[-1])
    assert grown.peak <= MAX_GROWTH


def test_silent_connection_is_closed(server: ServerProcess) -> None:
    """A connection that says nothing is closed by the server, so that it does not count for ever."""
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port)), 60) as silent:
        while not _is_closed(silent):
            pass


@pytest.mark.skipif(not SECONDS, reason="takes half a minute: make test-attack")
def test_reader_that_is_gone_is_cut_off(server: ServerProcess) -> None:
    """A peer that answers no ping is cut off some 20 s later, its calls with it."""
    peer = Peer(server.address)
    peer.socket.settimeout(120)
    peer.send([peer.headers(peer.open_stream(), EMBED_STREAM)])
    while not _is_closed(peer.socket):
        pass
    peer.close()


def _is_closed(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1 << 16)
    except ConnectionError:
        return True
