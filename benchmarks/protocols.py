"""How each kind of system is asked: an image to a request's bytes, and an answer's bytes judged.

Requests are handed to gRPC as bytes, so that one load generator costs the same for every system.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lookalike.v1 import embedding_service_pb2, image_pb2, search_service_pb2
from lookalike.wire import encode_varint, field_header

SEARCHED = "c000"
"""The category that searches by image ask; the first one of `catalog.vectors`."""

NEIGHBORS = 10

KSERVE_MODEL = "embedder"
KSERVE_INPUT = "image"


@dataclass(frozen=True, slots=True)
class Shape:
    """What goes in and comes out: rows and columns of a raw image, numbers in an embedding."""

    height: int
    width: int
    dim: int


@dataclass(frozen=True, slots=True)
class IpcConnection:
    """One way of asking.

    Attributes:
        path: The gRPC method, or the HTTP path.
        http: Whether it is HTTP/1.1 rather than gRPC.
        raw: Makes a request of a raw image of that shape.
        encoded: Makes a request of an image file.
        judge: Of an answer and the numbers expected: the microseconds it waited for a batch (-1 where the system does
            not tell).
    """

    path: str
    http: bool
    raw: Callable[[bytes, Shape], bytes]
    encoded: Callable[[bytes], bytes]
    judge: Callable[[bytes, int], int]


def _lookalike_raw(image: bytes, shape: Shape) -> bytes:
    rgb = image_pb2.RawImage(width=shape.width, height=shape.height, data=image)
    return embedding_service_pb2.EmbedRequest(image=image_pb2.Image(rgb=rgb)).SerializeToString()


def _lookalike_encoded(image: bytes) -> bytes:
    return embedding_service_pb2.EmbedRequest(image=image_pb2.Image(encoded=image)).SerializeToString()


def _lookalike_judge(answer: bytes, dim: int) -> int:
    response = embedding_service_pb2.EmbedResponse.FromString(answer)
    if len(response.embedding) != dim:
        raise ValueError(f"{len(response.embedding)} numbers came back, not {dim}")
    if response.stats.cache_hit:
        raise ValueError("the answer came from a cache")
    return response.stats.queue_us


def _search_raw(image: bytes, shape: Shape) -> bytes:
    rgb = image_pb2.RawImage(width=shape.width, height=shape.height, data=image)
    return _search(image_pb2.Image(rgb=rgb))


def _search_encoded(image: bytes) -> bytes:
    return _search(image_pb2.Image(encoded=image))


def _search(image: image_pb2.Image) -> bytes:
    return search_service_pb2.SearchRequest(image=image, category=SEARCHED, k=NEIGHBORS).SerializeToString()


def _search_judge(answer: bytes, _dim: int) -> int:
    response = search_service_pb2.SearchResponse.FromString(answer)
    if len(response.neighbors) != NEIGHBORS:
        raise ValueError(f"{len(response.neighbors)} products came back, not {NEIGHBORS}")
    if response.stats.cache_hit:
        raise ValueError("the answer came from a cache")
    return response.stats.queue_us


def _kserve_raw(image: bytes, shape: Shape) -> bytes:
    """An Open Inference Protocol v2 ModelInferRequest, encoded by hand: no stubs of a peer are needed here."""
    sizes = b"".join(encode_varint(size) for size in (1, shape.height, shape.width, 3))
    tensor = field(1, KSERVE_INPUT.encode()) + field(2, b"UINT8") + field(3, sizes)
    return field(1, KSERVE_MODEL.encode()) + field(5, tensor) + field(7, image)


def _length_judge(answer: bytes, dim: int) -> int:
    if len(answer) < 4 * dim:
        raise ValueError(f"{len(answer)} bytes came back, too few for {dim} numbers")
    return -1


def field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field, as it stands in a message."""
    return field_header(number, len(value)) + value


def _body(image: bytes, _shape: Shape) -> bytes:
    """The image itself."""
    return image


def _any_judge(_answer: bytes, _dim: int) -> int:
    return -1


def _none(_image: bytes) -> bytes:
    raise ValueError("this system takes raw images only")


WIRES = {
    "lookalike": IpcConnection(
        "/lookalike.v1.EmbeddingService/Embed", False, _lookalike_raw, _lookalike_encoded, _lookalike_judge
    ),
    "search": IpcConnection("/lookalike.v1.SearchService/Search", False, _search_raw, _search_encoded, _search_judge),
    "echo": IpcConnection("/benchmarks.Echo/Call", False, _body, bytes, _any_judge),
    "kserve": IpcConnection("/inference.GRPCInferenceService/ModelInfer", False, _kserve_raw, _none, _length_judge),
    "http": IpcConnection("/inference", True, _body, bytes, _length_judge),
}
