"""What parsing a message costs, found before it is parsed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lookalike.inference import inference_service_pb2 as oip
from lookalike.v1 import catalog_service_pb2, embedding_service_pb2, image_pb2, search_service_pb2
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.rpc.message_limits import MIB
from lookalike_server.rpc.request_bytes import HARMLESS_BYTES
from lookalike_server.rpc.wire_scan import WireCost, check_wire
from support.parser_memory import CAN_MEASURE, parsing
from support.wire_bytes import nested, number

UPSERT = catalog_service_pb2.UpsertProductsRequest
EMBED = embedding_service_pb2.EmbedRequest
SEARCH = search_service_pb2.SearchRequest
INFER = oip.ModelInferRequest
DELETE = catalog_service_pb2.DeleteProductsRequest
SLACK = 64 * 1024  # bytes of a block of the parser that nothing is in yet

UNKNOWN = b"\x78\x00"  # a field that no message has
EXPENSIVE = {
    "empty products": (UPSERT, nested(1)),
    "products of an empty attribute": (UPSERT, nested(1, 5)),
    "products of an attribute with an unknown field": (UPSERT, nested(1, 5, inside=UNKNOWN)),
    "products of an unknown field": (UPSERT, nested(1, inside=UNKNOWN)),
    "products of an empty image": (UPSERT, nested(1, 6)),
    "products of a vector of one": (UPSERT, nested(1, 7, 1, inside=b"abcd")),
    "products of a short vector with unknown fields between": (
        UPSERT,
        nested(1, 7, inside=(b"\x0d\0\0\0\0" + UNKNOWN) * 18),
    ),
    "unknown fields": (UPSERT, UNKNOWN),
    "unknown fields between others": (UPSERT, UNKNOWN + nested(2)),
    "filters of an empty value": (SEARCH, nested(7, 3, 1)),
    "an image or a vector": (SEARCH, nested(1) + nested(2)),
    "empty ids": (DELETE, nested(1)),
    "ids of a byte": (DELETE, nested(1, inside=b"a")),
    "tensors of a parameter": (INFER, nested(5, 4)),
    "tensors of a parameter with unknown fields": (
        INFER,
        nested(5, 4, inside=nested(2, inside=UNKNOWN) + UNKNOWN + nested(2, inside=UNKNOWN)),
    ),
    "outputs of a parameter": (INFER, nested(6, 2)),
    "tensors of an integer": (INFER, nested(5, 5, 4, inside=b"\1")),
    "dimensions": (INFER, nested(5, 3, inside=b"\1" * 200)),
}


def cost(message: type, data: bytes, max_fields: int = 1 << 40, max_integer_bytes: int = 1 << 40) -> WireCost:
    """Walk over a message, by default without limits."""
    return check_wire(data, message.DESCRIPTOR, max_fields, max_integer_bytes)  # type: ignore[attr-defined]


def rejection(message: type, data: bytes, max_fields: int = 1 << 40, max_integer_bytes: int = 1 << 40) -> str:
    """Return how a message is rejected."""
    with pytest.raises(LookalikeError) as error:
        cost(message, data, max_fields, max_integer_bytes)
    assert (error.value.code, error.value.field) == (Code.INVALID_ARGUMENT, "request")
    return error.value.message


@pytest.mark.skipif(not CAN_MEASURE, reason="this C library does not say how much memory is in use")
@pytest.mark.parametrize("name", EXPENSIVE)
def test_parsing_takes_no_more_memory_than_its_cost_says(name: str) -> None:
    """Whatever is repeated, the parser takes at most the memory that the walk predicts; harmless messages need none."""
    message, part = EXPENSIVE[name]
    for count in (1, 33, 129, 1025, 4097, 16385, HARMLESS_BYTES // len(part)):
        data = part * count
        parsed, taken = parsing(message, data)
        assert parsed is not None
        assert taken <= cost(message, data).max_memory_bytes + SLACK
        if len(data) <= HARMLESS_BYTES:
            assert taken <= 16 * MIB


@pytest.mark.skipif(not CAN_MEASURE, reason="this C library does not say how much memory is in use")
def test_memory_is_measured() -> None:
    """The measurement sees the memory of sub-messages: fields that were said to take 50 bytes would fail."""
    message, part = EXPENSIVE["empty products"]
    parsed, taken = parsing(message, part * 16385)
    assert parsed is not None
    assert taken > 100 * 16385


@pytest.mark.parametrize(
    ("message", "part", "fields"),
    [
        (UPSERT, nested(1), 1),
        (UPSERT, nested(1, 6) + nested(1, 7), 4),
        (UPSERT, nested(1, 5, 1, inside=b"color"), 2),
        (SEARCH, nested(7, 3, 1), 3),
        (SEARCH, number(6, 10), 1),
        (INFER, nested(5, 5, 8), 3),
        (INFER, nested(5, 5, inside=number(5, 1)), 3),
        (UPSERT, b"\x8a\x00\x00", 1),  # field 1 with a needless byte in its tag
        (UPSERT, b"\xfa\x7f\x02ab\xfd\x7f0123\xf9\x7f01234567", 3),  # field 2047, unknown
    ],
)
def test_fields_are_counted_at_all_levels(message: type, part: bytes, fields: int) -> None:
    """Each value, entry and sub-message is a field, and a message with one more than allowed is rejected."""
    data = part * 100
    assert cost(message, data).fields == 100 * fields
    cost(message, data, 100 * fields)
    assert "more than 99 fields" in rejection(message, data, 99)


def test_what_needs_no_look_is_passed_over() -> None:
    """An image, a long vector and an attribute are a field each, whatever their bytes look like."""
    image = image_pb2.Image(encoded=b"\x0a\x00" * MIB)
    assert cost(EMBED, EMBED(image=image).SerializeToString()).fields == 2
    for key, value in itertools.product((1, 127, 128, 256, 16_383), (0, 1, 127, 128, 16_383)):
        entry = nested(1, inside=b"\n" * key) + nested(2, inside=b"\n" * value)
        assert cost(UPSERT, nested(1, 5, inside=entry)).fields == 2
    product = UPSERT()
    product.products.add(id="1").vectors.add(values=np.ones(2048))
    product.products[0].attributes["long"] = "\n\0" * 4000
    product.products[0].attributes["short"] = "\n\0"
    # the product, its id and attributes, its vector, and that one's values
    assert cost(UPSERT, product.SerializeToString()).fields == 1 + 1 + 2 + 1 + 1


@pytest.mark.parametrize(
    "entry",
    [
        nested(1, inside=b"k") * 100,
        nested(1, inside=b"k" * 127) + nested(1, inside=b"k" * 40),
        nested(1, inside=b"k" * 200) + nested(2) + nested(2),
        nested(1, inside=b"k" * 200) + nested(3),
        nested(2, inside=b"v" * 200) + nested(1),
        nested(1, inside=b"k") + nested(2, inside=b"v" * 127) + nested(2, inside=b"v" * 40),
        nested(1, inside=b"k") + b"\x12\xff\xff\x03" + b"v" * 0xFFFF,
    ],
)
def test_attributes_that_no_serializer_writes_are_walked_over(entry: bytes) -> None:
    """A map's long entry with more than a key and a value counts for what it has."""
    assert parsing(UPSERT, nested(1, 5, inside=entry))[0] is not None
    assert cost(UPSERT, nested(1, 5, inside=entry)).fields > 2


def test_integers_count_as_they_are_in_memory() -> None:
    """Packed integers are bounded by their bytes in memory, which no count of fields sees."""
    pixels = nested(5, 5, 4, inside=b"\x7f" * 5000 + b"\x80\x01" * 5000)
    assert cost(INFER, pixels).integer_bytes == 4 * 10_000
    assert "more than 39,999 bytes" in rejection(INFER, pixels, max_integer_bytes=39_999)
    assert cost(INFER, nested(5, 5, 5, inside=b"\1" * 10)).integer_bytes == 80
    assert cost(INFER, nested(5, 3, inside=b"\1" * 4)).integer_bytes == 32


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",
        b"\x0a\x05abcd",
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x0a\x80",
        b"\x08",
        b"\x08\xff",
        b"\x08" + b"\xff" * 11,
        b"\xff" * 11,
        b"\x0d\0\0\0",
        b"\x09\0\0\0\0",
        b"\x0e",
        b"\x0f",
        nested(1, inside=b"\x0a\x05ab"),
        nested(1, inside=b"\x08") + b"\x01",
        nested(1, inside=b"\x0a\x02a") + b"b",
    ],
)
def test_damaged_bytes_are_found(data: bytes) -> None:
    """Bytes that end within a field or have no wire type are rejected, as by the parser."""
    assert "not the message" in rejection(UPSERT, data)
    assert parsing(UPSERT, data)[0] is None


def test_a_number_that_never_ends_is_not_read_to_its_end() -> None:
    """A varint is over after ten bytes, however many follow."""
    assert "not the message" in rejection(UPSERT, b"\x08" + b"\x80" * 100)
    assert "not the message" in rejection(UPSERT, b"\x0a" + b"\x80" * 100)


@pytest.mark.parametrize("data", [b"\x53\x54", b"\x53" * 100, b"\x0b\x0c", b"\x54"])
def test_groups_are_rejected(data: bytes) -> None:
    """No message of ours has groups, whose nesting nothing bounds."""
    assert "group" in rejection(UPSERT, data)
