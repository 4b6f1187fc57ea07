"""Products to store, read from their wire format: vectors stay where they were received, and the rest is parsed once.

The generated parser copies vectors into its messages, from which they come back only by serializing these again. What
is read here is a message as every serializer writes it, fields in the order of their numbers; all else, and above all
whatever is an error, is left to the generated parser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from google.protobuf.message import DecodeError

from lookalike.v1 import catalog_service_pb2, image_pb2, product_pb2
from lookalike.vector_codec import LENGTH_DELIMITED, decode_varint, field_header, from_vector
from lookalike_server.domain.inference import Floats

M = TypeVar("M", catalog_service_pb2.UpsertProductsRequest, catalog_service_pb2.ImportProductsRequest)


def _tag(number: int) -> int:
    return number << 3 | LENGTH_DELIMITED


_PRODUCTS = catalog_service_pb2.UpsertProductsRequest.PRODUCTS_FIELD_NUMBER
_PRODUCT = catalog_service_pb2.ImportProductsRequest.PRODUCT_FIELD_NUMBER
_TEXTS = frozenset(
    _tag(number)
    for number in range(product_pb2.ProductInput.ID_FIELD_NUMBER, product_pb2.ProductInput.IMAGES_FIELD_NUMBER)
)
"""Of the fields before the images: strings, and the entries of the attributes."""
_VECTORS = _tag(product_pb2.ProductInput.VECTORS_FIELD_NUMBER)
_VALUES = _tag(image_pb2.Vector.VALUES_FIELD_NUMBER)


@dataclass(frozen=True, slots=True)
class ReceivedProducts(Generic[M]):
    """A request, and the vectors of its products.

    Attributes:
        message: The request without these.
        vectors: For each product its vectors, float32 [any] each; they may be views of what was received, unaligned.
    """

    message: M
    vectors: Sequence[Sequence[Floats]]


def upsert_request(data: bytes) -> ReceivedProducts[catalog_service_pb2.UpsertProductsRequest]:
    """Read an UpsertProductsRequest.

    Raises:
        DecodeError: The bytes are no UpsertProductsRequest.
    """
    apart = _apart(data, _PRODUCTS)
    if apart is not None:
        try:
            message = catalog_service_pb2.UpsertProductsRequest.FromString(apart[0])
        except DecodeError:
            pass
        else:
            if len(message.products) == len(apart[1]):
                return ReceivedProducts(message, apart[1])
    message = catalog_service_pb2.UpsertProductsRequest.FromString(data)
    return ReceivedProducts(message, [_take_vectors(product) for product in message.products])


def import_request(data: bytes) -> ReceivedProducts[catalog_service_pb2.ImportProductsRequest]:
    """Read an ImportProductsRequest.

    Raises:
        DecodeError: The bytes are no ImportProductsRequest.
    """
    apart = _apart(data, _PRODUCT)
    if apart is not None and len(apart[1]) == 1:
        try:
            return ReceivedProducts(catalog_service_pb2.ImportProductsRequest.FromString(apart[0]), apart[1])
        except DecodeError:
            pass
    message = catalog_service_pb2.ImportProductsRequest.FromString(data)
    return ReceivedProducts(message, [_take_vectors(message.product)])


def _take_vectors(product: product_pb2.ProductInput) -> list[Floats]:
    vectors = [from_vector(vector) for vector in product.vectors]
    product.ClearField("vectors")
    return vectors


def _apart(data: bytes, products: int) -> tuple[bytes, list[list[Floats]]] | None:
    """Return a request without its products' vectors, and these; None where it is not as serializers write it.

    Args:
        data: The request.
        products: The number of its field of products, its first one.
    """
    tag = _tag(products)
    parts: list[bytes] = []
    vectors: list[list[Floats]] = []
    position, end = 0, len(data)
    try:
        while position < end and data[position] == tag:
            size, begin = decode_varint(data, position + 1)
            position = begin + size
            own_begin = _end_of_texts(data, begin, position)
            own = _vectors(data, own_begin, position)
            if own is None or position > end:
                return None
            vectors.append(own)
            parts += (field_header(products, own_begin - begin), data[begin:own_begin])
    except (IndexError, ValueError):
        return None
    parts.append(data[position:])
    return b"".join(parts), vectors


def _end_of_texts(data: bytes, position: int, end: int) -> int:
    while position < end and data[position] in _TEXTS:
        size = data[position + 1]
        position += 2
        if size > 0x7F:
            size, position = decode_varint(data, position - 1)
        position += size
    return position


def _vectors(data: bytes, position: int, end: int) -> list[Floats] | None:
    """Return the vectors that are all there is between two positions, at least one; None where that is not so."""
    vectors: list[Floats] = []
    while position < end:
        if data[position] != _VECTORS:
            return None
        size, begin = decode_varint(data, position + 1)
        position = begin + size
        if data[begin] != _VALUES:
            return None
        size, begin = decode_varint(data, begin + 1)
        if begin + size != position or size % 4:
            return None
        vectors.append(np.frombuffer(data, "<f4", size // 4, begin))
    return vectors if vectors and position == end else None
