"""Single messages that cost far more than their bytes are rejected before they cost it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from lookalike.v1 import embedding_service_pb2, embedding_service_pb2_grpc, image_pb2
from support.attack.bare_call import status_of
from support.attack.honest import HonestCaller
from support.attack.images import flat_webp
from support.attack.memory import MIB, growth
from support.attack.peer import EMBED, message
from support.attack.scene import MAX_GROWTH, attacked_server
from support.processes import ServerProcess
from support.serving import connect, encoded, noise, raw

pytestmark = pytest.mark.slow

MAX_MESSAGE_GROWTH = 32 * MIB  # 16 MiB for the message, and what the allocator and the connection keep
MAX_IMAGE_GROWTH = 256 * MIB
UPSERT = "/lookalike.v1.CatalogService/UpsertProducts"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Run a server."""
    with attacked_server(tmp_path / "data") as started:
        yield started


@pytest.fixture
def honest(server: ServerProcess) -> Iterator[HonestCaller]:
    """Call beside the attack."""
    with HonestCaller(server.address, deadline=10.0) as caller:  # other tests run beside it
        yield caller


def test_compressed_message_is_rejected(server: ServerProcess, honest: HonestCaller) -> None:
    """A message of 60 KB that would become 60 MB is rejected by the size it announces; nothing is decompressed."""
    bomb = gzip.compress(bytes(60_000_000))
    with growth(server.process.pid) as grown:
        status = status_of(server.address, EMBED, message(bomb, compressed=True), (("grpc-encoding", "gzip"),))
    assert status == "3"
    assert grown.peak <= MAX_MESSAGE_GROWTH
    honest.made(3)
    assert honest.share == 1, repr(honest)


def test_compressed_message_that_was_not_announced_is_rejected(server: ServerProcess, honest: HonestCaller) -> None:
    """A message with the flag of compression and no announced algorithm is not decompressed either."""
    with growth(server.process.pid) as grown:
        status = status_of(server.address, EMBED, message(gzip.compress(bytes(60_000_000)), compressed=True))
    assert status != "0"
    assert grown.peak <= MAX_MESSAGE_GROWTH
    honest.made(3)
    assert honest.share == 1, repr(honest)


@pytest.mark.parametrize("tag", [b"\x0a\x00", b"\x12\x00"])
def test_message_of_empty_messages_is_rejected(server: ServerProcess, honest: HonestCaller, tag: bytes) -> None:
    """60 MB of empty sub-messages are rejected without being parsed."""
    with growth(server.process.pid) as grown:
        status = status_of(server.address, UPSERT, message(tag * 30_000_000))
    assert status != "0"
    assert grown.peak <= MAX_GROWTH  # UpsertProducts takes 64 MiB, so the bytes are read
    honest.made(3)
    assert honest.share == 1, repr(honest)


def test_large_metadata_is_rejected(server: ServerProcess, honest: HonestCaller) -> None:
    """50 KB of metadata end the call and cost nothing; the connection's next call is served."""
    with growth(server.process.pid) as grown:
        status = status_of(server.address, EMBED, message(b""), (("x-large", "v" * 50_000),))
    assert status == "8"
    assert grown.peak <= MAX_MESSAGE_GROWTH
    honest.made(3)
    assert honest.share == 1, repr(honest)


def test_deadline_of_nothing_costs_nothing(server: ServerProcess, honest: HonestCaller) -> None:
    """A call whose time is over when it arrives ends DEADLINE_EXCEEDED, or is reset."""
    status = status_of(server.address, EMBED, message(b""), timeout="0n")
    assert status in ("4", "reset")
    honest.made(3)
    assert honest.share == 1, repr(honest)


async def test_small_files_of_large_images(server: ServerProcess, honest: HonestCaller) -> None:
    """Sixteen files of 40 bytes with 49 million pixels each cost at most 256 MiB over all decoders."""
    file = flat_webp(16_383, 3_000)
    assert len(file) == 40
    async with connect(server.address) as channel:
        stub: Any = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        request = embedding_service_pb2.EmbedRequest(image=image_pb2.Image(encoded=file))
        with growth(server.process.pid) as grown:
            await asyncio.gather(*(stub.Embed(request, timeout=60) for _ in range(16)), return_exceptions=True)
    assert grown.peak <= MAX_IMAGE_GROWTH
    assert honest.share == 1, repr(honest)


async def test_malformed_item_fails_alone(server: ServerProcess) -> None:
    """Of a stream of twenty items, the one whose bytes are no message fails, and the others are answered."""
    bad = b"\x0a\xff\xff\xff"

    async def items() -> AsyncIterator[bytes]:
        for at in range(20):
            image = encoded(noise(at)) if at % 2 else raw(noise(at))
            item = embedding_service_pb2.EmbedStreamRequest(id=str(at), image=image).SerializeToString()
            yield bad if at == 7 else item

    async with connect(server.address) as channel:
        method: Any = channel.stream_stream(
            "/lookalike.v1.EmbeddingService/EmbedStream",
            response_deserializer=embedding_service_pb2.EmbedStreamResponse.FromString,
        )
        call = method(items())
        answers = [answer async for answer in call]
    assert sorted(answer.status.code for answer in answers) == [0] * 19 + [grpc.StatusCode.INVALID_ARGUMENT.value[0]]
