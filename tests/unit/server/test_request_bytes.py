"""A request's bytes, before they are parsed: what passes, what does not, and what that costs."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from lookalike.vector_codec import field_header
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.rpc.decompression import ANY_RATIO_BYTES
from lookalike_server.rpc.message_limits import KIB, MIB, message_limits
from lookalike_server.rpc.request_bytes import HARMLESS_BYTES, checked
from support.parser_memory import CAN_MEASURE, parsing
from support.wire_bytes import MESSAGES, nested, number

LIMITS = message_limits(64 * MIB, 10 * MIB)


def rejection(method: str, data: bytes) -> str:
    """Return how a request is rejected."""
    with pytest.raises(LookalikeError) as error:
        checked(data, LIMITS[method])
    assert (error.value.code, error.value.field) == (Code.INVALID_ARGUMENT, "request")
    return str(error.value)


def unknown_bytes(total: int) -> bytes:
    """Write a message of so many bytes, in one field that is unknown to all methods."""
    header = field_header(14, total - 4)
    return field_header(14, total - len(header)) + bytes(total - len(header))


@pytest.mark.parametrize("method", LIMITS)
def test_a_message_may_have_as_many_bytes_as_its_method_takes(method: str) -> None:
    """A message of the limit passes, compressed too, and one more byte does not."""
    limit = LIMITS[method].max_bytes
    data = unknown_bytes(limit)
    assert checked(data, LIMITS[method]) is data
    too_long = unknown_bytes(limit + 1)
    said = f"request: has {limit + 1:,} bytes"
    assert rejection(method, too_long).startswith(f"{said}; this method takes at most {limit:,}")
    if limit <= ANY_RATIO_BYTES:
        assert checked(gzip.compress(data), LIMITS[method]) == data
        assert rejection(method, gzip.compress(too_long)).startswith(f"{said} when decompressed")


@pytest.mark.parametrize(
    ("method", "part"),
    [
        ("/lookalike.v1.CatalogService/UpsertProducts", nested(1)),
        ("/lookalike.v1.CatalogService/UpsertProducts", nested(1, 5)),
        ("/lookalike.v1.CatalogService/UpsertProducts", nested(1, 5, 1)),
        ("/lookalike.v1.CatalogService/UpsertProducts", number(3, 0)),
        ("/lookalike.v1.CatalogService/ImportProducts", nested(1, 6)),
        ("/lookalike.v1.CatalogService/DeleteProducts", nested(1)),
        ("/lookalike.v1.SearchService/Search", nested(7)),
        ("/lookalike.v1.SearchService/Search", nested(7, 3, 1)),
        ("/lookalike.v1.EmbeddingService/Embed", nested(1, 2)),
        ("/inference.GRPCInferenceService/ModelInfer", nested(5, 4)),
        ("/inference.GRPCInferenceService/ModelInfer", nested(7)),
    ],
)
def test_messages_that_take_much_more_memory_than_they_have_bytes_are_rejected(method: str, part: bytes) -> None:
    """Small things by the hundred thousand are rejected, whatever they are, and the error says to send less."""
    data = part * (min(60 * MIB, LIMITS[method].max_bytes) // len(part))
    assert "fields" in rejection(method, data)
    assert "send less in one message" in rejection(method, data)


def test_rejecting_takes_no_memory() -> None:
    """The largest message of sub-messages is rejected with a few kilobytes of memory."""
    data = nested(1) * (30 * MIB)
    tracemalloc.start()
    try:
        rejection("/lookalike.v1.CatalogService/UpsertProducts", data)
        assert tracemalloc.get_traced_memory()[1] < 100 * KIB
    finally:
        tracemalloc.stop()


def test_integers_that_take_much_memory_are_rejected() -> None:
    """Packed integers above the limit in memory are rejected, though they are few fields."""
    data = nested(5, 5, 5, inside=bytes(9 * MIB))
    assert "send fewer in one message" in rejection("/inference.GRPCInferenceService/ModelInfer", data)


@pytest.mark.skipif(not CAN_MEASURE, reason="this C library does not say how much memory is in use")
@pytest.mark.parametrize("method", LIMITS)
def test_harmless_messages_need_no_look(method: str) -> None:
    """What is too short to be looked at takes no 16 MiB, whatever is repeated in it."""
    parts = [nested(*path) for path in ((1,), (1, 5), (5, 4), (6, 2), (7, 3, 1), (2, 7, 3, 1))]
    for part in (*parts, nested(5, 5, 5, inside=bytes(100))):
        data = part * (min(HARMLESS_BYTES, LIMITS[method].max_bytes) // len(part))
        assert checked(data, LIMITS[method]) is data
        assert parsing(MESSAGES[method], data)[1] < 16 * MIB


def test_compressed_messages_are_looked_at_too() -> None:
    """What is inside gzip is bounded as what is not."""
    method = "/lookalike.v1.CatalogService/UpsertProducts"
    compressed = gzip.compress(nested(1) * 200_000)
    with pytest.raises(LookalikeError, match="fields"):
        checked(compressed, LIMITS[method])
    assert checked(gzip.compress(compressed), LIMITS[method]) == compressed  # the parser finds that


def test_deflate_is_rejected_with_what_to_use() -> None:
    """A message of gRPC's deflate, which does not say its size, is rejected and not taken for a malformed one."""
    method = "/lookalike.v1.CatalogService/GetProduct"
    for level in range(10):
        assert "compressed by gzip, or uncompressed" in rejection(method, zlib.compress(nested(1), level))


def test_damaged_bytes_of_a_long_message_are_rejected() -> None:
    """A long message that ends too early is rejected; of a short one the parser will say so."""
    method = "/lookalike.v1.EmbeddingService/Embed"
    image = nested(1, 1, inside=bytes(200 * KIB))
    assert "not the message" in rejection(method, image[:-1])
    short = nested(1, 1, inside=bytes(KIB))[:-1]
    assert checked(short, LIMITS[method]) is short
    assert parsing(MESSAGES[method], short)[0] is None
