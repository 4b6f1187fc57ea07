"""Requests serialized in advance, so that sending one costs a worker next to nothing."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from google.protobuf.message import Message

from lookalike import vector_codec
from lookalike.v1 import embedding_service_pb2, image_pb2, search_service_pb2
from lookalike_loadtest.cache_busting import NUMBER_BYTES, encode_number, split_image

EMBED = "/lookalike.v1.EmbeddingService/Embed"
SEARCH = "/lookalike.v1.SearchService/Search"


class RequestTemplate(NamedTuple):
    """The bytes of a request, before and after a number where it carries one."""

    before: bytes
    after: bytes | None = None

    def render(self, number: int) -> bytes:
        """Return the request with this number in it; always the same bytes where it carries none."""
        return self.before if self.after is None else b"".join((self.before, encode_number(number), self.after))


@dataclass(frozen=True, slots=True)
class RequestSet:
    """The requests of one kind.

    Attributes:
        method: The gRPC method, "/package.Service/Method".
        templates: What is drawn from.
        share: How often this kind is sent, relative to the others.
        generate: Makes the requests one after another in each worker, instead of `templates`; pickled by name.
    """

    method: str
    templates: Sequence[RequestTemplate] = ()
    share: float = 1.0
    generate: Callable[[], Iterator[bytes]] | None = None


@dataclass(frozen=True, slots=True)
class SearchScope:
    """Where a search looks and for how much: in a category, in all, or (neither) in the product's own."""

    k: int
    category: str = ""
    all_categories: bool = False


def by_id(product_id: str, scope: SearchScope) -> RequestTemplate:
    """Search with a product of the catalog."""
    return RequestTemplate(_search(scope, product_id=product_id).SerializeToString())


def by_vector(values: np.ndarray, scope: SearchScope) -> RequestTemplate:
    """Search with an embedding, float32 [dim]."""
    return RequestTemplate(_search(scope, vector=vector_codec.to_vector(values)).SerializeToString())


def with_image(source: bytes | np.ndarray, scope: SearchScope | None, *, bust_cache: bool) -> RequestTemplate:
    """Search with an image, or embed it.

    Args:
        source: An image file, or pixels as uint8 [height, width, 3].
        scope: Where to search; None to embed only.
        bust_cache: Whether the image carries a number, so that it is another one to the server each time.
    """
    if not bust_cache:
        return RequestTemplate(_with_image(_image(source), scope).SerializeToString())
    marker = secrets.token_bytes(NUMBER_BYTES)
    if isinstance(source, bytes):
        image = _image(marker.join(split_image(source)))
    else:
        data = marker + source.tobytes()[NUMBER_BYTES:]
        image = image_pb2.Image(rgb=image_pb2.RawImage(width=source.shape[1], height=source.shape[0], data=data))
    before, after = _with_image(image, scope).SerializeToString().split(marker)
    return RequestTemplate(before, after)


def _image(source: bytes | np.ndarray) -> image_pb2.Image:
    if isinstance(source, bytes):
        return image_pb2.Image(encoded=source)
    return image_pb2.Image(rgb=image_pb2.RawImage(width=source.shape[1], height=source.shape[0], data=source.tobytes()))


def _with_image(image: image_pb2.Image, scope: SearchScope | None) -> Message:
    return embedding_service_pb2.EmbedRequest(image=image) if scope is None else _search(scope, image=image)


def _search(
    scope: SearchScope,
    *,
    image: image_pb2.Image | None = None,
    vector: image_pb2.Vector | None = None,
    product_id: str | None = None,
) -> search_service_pb2.SearchRequest:
    request = search_service_pb2.SearchRequest(
        image=image, vector=vector, category=scope.category, all_categories=scope.all_categories, k=scope.k
    )
    if product_id is not None:
        request.product_id = product_id
    return request
