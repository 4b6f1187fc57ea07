"""What each server speaks: an image made to a request's bytes, and an answer's bytes judged.

Requests are handed over as bytes, so that the load generator costs the same for every server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.http_transport import HttpTransport
from lookalike.v1 import embedding_service_pb2, image_pb2, search_service_pb2
from lookalike.vector_codec import encode_varint, field_header
from lookalike_loadtest.requests import EMBED, SEARCH
from lookalike_loadtest.transports import GrpcTransport, Transport
from lookalike_loadtest.worker_messages import Judge

SEARCHED = "c000"
"""The category that searches by image search in; the first one of `catalog.vectors`."""

NEIGHBORS = 10

KSERVE_MODEL = "embedder"
KSERVE_INPUT = "image"


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way of asking for an embedding.

    Attributes:
        method: The gRPC method, or the HTTP path.
        raw: Makes a request of a raw image, its height and its width.
        encoded: Makes a request of an image file.
        judge: Makes the judge of the answers, from the dimensions expected; the judge returns the microseconds that the
            image waited for a batch, -1 where the server does not report them.
        transport: What the calls are sent over.
    """

    method: str
    raw: Callable[[bytes, int, int], bytes]
    encoded: Callable[[bytes], bytes]
    judge: Callable[[int], Judge]
    transport: Callable[[str, int], Transport] = GrpcTransport


def _raw(image: bytes, height: int, width: int) -> image_pb2.Image:
    return image_pb2.Image(rgb=image_pb2.RawImage(width=width, height=height, data=image))


def _embed(image: image_pb2.Image) -> bytes:
    return embedding_service_pb2.EmbedRequest(image=image).SerializeToString()


def _search(image: image_pb2.Image) -> bytes:
    return search_service_pb2.SearchRequest(image=image, category=SEARCHED, k=NEIGHBORS).SerializeToString()


def _judge_embedding(answer: bytes, dim: int) -> int:
    response = embedding_service_pb2.EmbedResponse.FromString(answer)
    if len(response.embedding) != dim:
        raise ValueError(f"the embedding has {len(response.embedding)} dimensions, not {dim}")
    if response.stats.cache_hit:
        raise ValueError("the answer came from a cache")
    return response.stats.queue_us


def _judge_search(answer: bytes) -> int:
    response = search_service_pb2.SearchResponse.FromString(answer)
    if len(response.neighbors) != NEIGHBORS:
        raise ValueError(f"the answer has {len(response.neighbors)} products, not {NEIGHBORS}")
    if response.stats.cache_hit:
        raise ValueError("the answer came from a cache")
    return response.stats.queue_us


def _judge_length(answer: bytes, dim: int) -> int:
    if len(answer) < 4 * dim:
        raise ValueError(f"the answer has {len(answer)} bytes, too few for {dim} dimensions")
    return -1


def _kserve(image: bytes, height: int, width: int) -> bytes:
    """Return an Open Inference Protocol v2 ModelInferRequest, encoded by hand: no stubs of a peer are needed here."""
    sizes = b"".join(encode_varint(size) for size in (1, height, width, 3))
    tensor = field(1, KSERVE_INPUT.encode()) + field(2, b"UINT8") + field(3, sizes)
    return field(1, KSERVE_MODEL.encode()) + field(5, tensor) + field(7, image)


def field(number: int, value: bytes) -> bytes:
    """Return a length-delimited protobuf field, as it stands in a message."""
    return field_header(number, len(value)) + value


def _body(image: bytes, _height: int, _width: int) -> bytes:
    return image


def _raw_only(_image: bytes) -> bytes:
    raise ValueError("this server takes raw images only")


PROTOCOLS = {
    "lookalike": Protocol(
        EMBED,
        lambda image, height, width: _embed(_raw(image, height, width)),
        lambda image: _embed(image_pb2.Image(encoded=image)),
        lambda dim: partial(_judge_embedding, dim=dim),
    ),
    "search": Protocol(
        SEARCH,
        lambda image, height, width: _search(_raw(image, height, width)),
        lambda image: _search(image_pb2.Image(encoded=image)),
        lambda _: _judge_search,
    ),
    "echo": Protocol("/benchmarks.Echo/Call", _body, bytes, lambda _: partial(_judge_length, dim=1)),
    "kserve": Protocol(
        "/inference.GRPCInferenceService/ModelInfer", _kserve, _raw_only, lambda dim: partial(_judge_length, dim=dim)
    ),
    "http": Protocol("/inference", _body, _raw_only, lambda dim: partial(_judge_length, dim=dim), HttpTransport),
}
