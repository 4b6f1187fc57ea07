"""Products to store, read from their wire format: the same as the generated parser reads, however they are written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from lookalike import vector_codec
from lookalike.v1 import catalog_service_pb2, image_pb2, product_pb2
from lookalike_server.domain.catalog import ProductUpsert
from lookalike_server.rpc.v1 import from_pb
from lookalike_server.rpc.v1.product_wire import ReceivedProducts, import_request, upsert_request

DIM = 4

_TEXT = st.text(max_size=200)
_VECTOR = st.lists(st.floats(width=32), max_size=40).map(lambda values: image_pb2.Vector(values=values))
_PRODUCT = st.builds(
    product_pb2.ProductInput,
    id=_TEXT,
    category=_TEXT,
    title=_TEXT,
    image_uri=_TEXT,
    attributes=st.dictionaries(_TEXT, _TEXT, max_size=3),
    images=st.lists(st.builds(image_pb2.Image, encoded=st.binary(max_size=40)), max_size=1),
    vectors=st.lists(_VECTOR, max_size=3),
)
_REQUEST = st.builds(
    catalog_service_pb2.UpsertProductsRequest, products=st.lists(_PRODUCT, max_size=4), idempotency_key=_TEXT
)


def product(number: int = 1, **facts: Any) -> product_pb2.ProductInput:
    """Make a product with two vectors."""
    vectors = [image_pb2.Vector(values=[number, at, 0.5, -1.0]) for at in range(2)]
    return product_pb2.ProductInput(id=f"p{number}", category="Shoes", vectors=vectors, **facts)


def field(number: int, data: bytes) -> bytes:
    """Write a length-delimited field."""
    return vector_codec.field_header(number, len(data)) + data


def whole(received: ReceivedProducts[Any], products: Any) -> list[bytes]:
    """Return each product with its vectors, as bytes."""
    assert len(products) == len(received.vectors)
    put_together = []
    for item, vectors in zip(products, received.vectors, strict=True):
        assert not item.vectors
        copy = product_pb2.ProductInput()
        copy.CopyFrom(item)
        copy.vectors.extend(map(vector_codec.to_vector, vectors))
        put_together.append(copy.SerializeToString(deterministic=True))
    return put_together


def check(data: bytes) -> ReceivedProducts[catalog_service_pb2.UpsertProductsRequest]:
    """Read a request, which must be what the generated parser makes of it."""
    expected = catalog_service_pb2.UpsertProductsRequest.FromString(data)
    received = upsert_request(data)
    assert received.message.idempotency_key == expected.idempotency_key
    for product in expected.products:
        for vector in product.vectors:
            vector.DiscardUnknownFields()  # of a vector nothing but its values is taken
    assert whole(received, received.message.products) == [
        each.SerializeToString(deterministic=True) for each in expected.products
    ]
    return received


@given(_REQUEST)
def test_every_request_is_read_as_by_the_generated_parser(
    request: catalog_service_pb2.UpsertProductsRequest,
) -> None:
    """Whatever is in a request comes out of it, bit by bit."""
    check(request.SerializeToString())


@given(_REQUEST, st.integers(0, 2**32), st.integers(0, 255))
def test_damaged_bytes_are_read_as_by_the_generated_parser(
    request: catalog_service_pb2.UpsertProductsRequest, position: int, value: int
) -> None:
    """One wrong byte, or an end too soon, is an error where it is one for the generated parser, and nowhere else."""
    whole_bytes = request.SerializeToString()
    if not whole_bytes:
        return
    position %= len(whole_bytes)
    damaged = whole_bytes[:position] + bytes([value]) + whole_bytes[position + 1 :]
    for data in (damaged, whole_bytes[:position]):
        try:
            catalog_service_pb2.UpsertProductsRequest.FromString(data)
        except DecodeError:
            with pytest.raises(DecodeError):
                upsert_request(data)
        else:
            check(data)


def test_vectors_stay_where_they_were_received() -> None:
    """The vectors of a request as serializers write it are views of its bytes; those of any other are not."""
    data = catalog_service_pb2.UpsertProductsRequest(
        products=[product(1, attributes={"color": "red"}), product(2)], idempotency_key="k"
    ).SerializeToString()
    received = np.frombuffer(data, np.uint8)
    for vectors in check(data).vectors:
        assert len(vectors) == 2
        assert all(np.shares_memory(vector, received) for vector in vectors)
    other = field(2, b"k") + data
    assert not np.shares_memory(check(other).vectors[0][0], np.frombuffer(other, np.uint8))


_VALUES = np.array([1.0, 2.0, 3.0, 4.0], "<f4").tobytes()
_VECTOR_BYTES = field(7, field(1, _VALUES))
_ID = field(1, b"p")
_UNUSUAL = {
    "the id after the vectors": field(1, _VECTOR_BYTES + _ID),
    "a product in two parts": field(1, _ID + _VECTOR_BYTES) + field(2, b"k") + field(1, _ID),
    "an unknown field after the vectors": field(1, _ID + _VECTOR_BYTES + field(15, b"x")),
    "an unknown field of the request": field(1, _ID + _VECTOR_BYTES) + field(15, b"x"),
    "unpacked values": field(1, _ID + field(7, b"".join(b"\x0d" + _VALUES[at : at + 4] for at in range(0, 16, 4)))),
    "values in two parts": field(1, _ID + field(7, field(1, _VALUES[:8]) + field(1, _VALUES[8:]))),
    "an empty vector": field(1, _ID + field(7, b"")),
    "empty values": field(1, _ID + field(7, field(1, b""))),
    "a vector in a text": field(1, field(3, b"x" * 8 + b":\x12\x0a\x10" + b"y" * 16) + _VECTOR_BYTES),
    "a size in more bytes than it needs": b"\x0a"
    + bytes([len(_ID + _VECTOR_BYTES) | 0x80, 0x00])
    + _ID
    + _VECTOR_BYTES,
    "an id twice": field(1, _ID + field(1, b"q") + _VECTOR_BYTES),
    "no product": b"",
    "an empty product": field(1, b""),
    "an image too": field(1, _ID + field(6, field(1, b"jpeg")) + _VECTOR_BYTES),
}


@pytest.mark.parametrize("data", _UNUSUAL.values(), ids=_UNUSUAL)
def test_unusual_ways_to_write_a_request(data: bytes) -> None:
    """Protobuf allows more than serializers write, and all of it is read."""
    check(data)


@pytest.mark.parametrize(
    "data",
    [
        field(1, _ID + field(7, field(1, _VALUES[:-1]))),
        field(1, _ID + _VECTOR_BYTES)[:-1],
        field(1, field(1, b"\xff") + _VECTOR_BYTES),
        field(1, _ID + _VECTOR_BYTES) + b"\x0a",
        field(1, b"\x0a\x7f" + _VECTOR_BYTES),
    ],
    ids=["half a value", "cut", "no UTF-8", "cut after a product", "an id beyond its product"],
)
@pytest.mark.parametrize("parse", [upsert_request, import_request])
def test_what_is_no_message_is_an_error(parse: Callable[[bytes], object], data: bytes) -> None:
    """Bytes that the generated parser rejects are rejected."""
    with pytest.raises(DecodeError):
        parse(data)


def test_an_import_has_one_product() -> None:
    """An ImportProductsRequest is read likewise; one whose product comes in two parts is the product of both."""
    usual = field(1, product(3).SerializeToString())
    parts = field(1, _ID + _VECTOR_BYTES) + field(1, field(2, b"Hats") + _VECTOR_BYTES)
    for data in (usual, parts, b""):
        received = import_request(data)
        expected = catalog_service_pb2.ImportProductsRequest.FromString(data).product
        assert whole(received, [received.message.product]) == [expected.SerializeToString(deterministic=True)]


def test_the_digest_is_that_of_the_whole_product() -> None:
    """A repeat of a request is recognized however it is written, also by a server that read products as a whole."""
    item = product(1, attributes={"b": "2", "a": "1"})
    digest = hashlib.sha256(item.SerializeToString(deterministic=True)).hexdigest()
    request = catalog_service_pb2.UpsertProductsRequest(products=[item], idempotency_key="k").SerializeToString()
    key = field(2, b"k")
    for data in (request, key + request.removesuffix(key)):
        ((_, upsert),) = from_pb.product_upserts(upsert_request(data), DIM)
        assert isinstance(upsert, ProductUpsert)
        assert upsert.idempotency_key is not None
        assert upsert.idempotency_key.digest == digest


def test_one_wrong_vector_fails_its_product_alone() -> None:
    """Each product of a request has its own vectors or its own error, and vectors are aligned float32 [dim]."""
    products = [product(number) for number in range(6)]
    for wrong, values in {1: [1.0], 2: [0.0] * DIM, 3: [float("nan")] * DIM, 4: [float("inf")] * DIM}.items():
        products[wrong].vectors[1].CopyFrom(image_pb2.Vector(values=values))
    products[5].vectors[0].CopyFrom(image_pb2.Vector(values=[1e-30] * DIM))  # short, and yet valid
    data = catalog_service_pb2.UpsertProductsRequest(products=products).SerializeToString()
    outcomes = [outcome for _, outcome in from_pb.product_upserts(upsert_request(data), DIM)]
    errors = {at: str(outcome) for at, outcome in enumerate(outcomes) if isinstance(outcome, Exception)}
    assert errors == {
        1: "products[1].vectors[1].values: has 1 dimensions; this model's embeddings have 4",
        2: "products[2].vectors[1].values: must not be all zeros",
        3: "products[3].vectors[1].values: has a value that is NaN or infinite; send finite ones",
        4: "products[4].vectors[1].values: has a value that is NaN or infinite; send finite ones",
    }
    for at in (0, 5):
        outcome = outcomes[at]
        assert isinstance(outcome, ProductUpsert)
        for vector, sent in zip(outcome.vectors, products[at].vectors, strict=True):
            assert vector.dtype == np.dtype(np.float32)
            assert vector.flags.aligned
            assert vector.tolist() == list(sent.values)
