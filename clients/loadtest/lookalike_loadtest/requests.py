"""Requests written in advance, so that sending one costs the tester next to nothing."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from google.protobuf.message import Message

from lookalike import wire
from lookalike.v1 import embedding_service_pb2, image_pb2, search_service_pb2
from lookalike_loadtest.cache_busting import STAMP_BYTES, around_stamp, stamp
from lookalike_loadtest.plan import Kind, Mix

_EMBED = "/lookalike.v1.EmbeddingService/Embed"
_SEARCH = "/lookalike.v1.SearchService/Search"


class Question(NamedTuple):
    """A request's bytes, around a stamp where it has one."""

    before: bytes
    after: bytes | None = None

    def stamped(self, number: int) -> bytes:
        """The request that carries this number; the same every time where it has no stamp."""
        return self.before if self.after is None else b"".join((self.before, stamp(number), self.after))


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a search looks and how much it wants: a category, or all, or (neither) the product's own."""

    k: int
    category: str = ""
    all_categories: bool = False


@dataclass(frozen=True, slots=True)
class Stock:
    """All that one client process needs to send calls.

    Attributes:
        target: HOST:PORT.
        token: The bearer token, or None.
        kinds: The kinds of the mix.
        weights: Their shares.
        queries: The queries of each kind.
        first_stamp: Where the images' numbers begin; other tests, also earlier ones, begin elsewhere.
        index: Which process this is.
        of: How many there are.
    """

    target: str
    token: str | None
    kinds: Sequence[Kind]
    weights: Sequence[float]
    questions: Sequence[Sequence[Question]]
    first_stamp: int
    index: int = 0
    of: int = 1

    @property
    def paths(self) -> list[str]:
        """The gRPC method of each kind."""
        return [_EMBED if kind is Kind.EMBED else _SEARCH for kind in self.kinds]


def stock_of(target: str, token: str | None, mix: Mix, questions: Mapping[Kind, Sequence[Question]]) -> Stock:
    """What all processes share; none has images with the numbers of another, or of another test."""
    kinds = list(mix)
    return Stock(
        target=target,
        token=token,
        kinds=kinds,
        weights=[mix[kind] for kind in kinds],
        questions=[questions[kind] for kind in kinds],
        first_stamp=secrets.randbits(62),
    )


def by_id(product_id: str, scope: Scope) -> Question:
    """A search with a product of the catalog."""
    return Question(_search(scope, product_id=product_id).SerializeToString())


def by_vector(values: np.ndarray, scope: Scope) -> Question:
    """A search with an embedding, float32 [dim]."""
    return Question(_search(scope, vector=wire.to_vector(values)).SerializeToString())


def with_image(source: bytes | np.ndarray, scope: Scope | None, *, unique: bool) -> Question:
    """A search with an image, or without a scope its embedding.

    Args:
        source: An image file, or pixels as uint8 [height, width, 3].
        scope: Where to search; None to embed only.
        unique: Whether each time it is sent it should be another image to the server.
    """
    if not unique:
        return Question(_about(_image(source), scope).SerializeToString())
    marker = secrets.token_bytes(STAMP_BYTES)
    if isinstance(source, bytes):
        before, after = around_stamp(source)
        image = _image(before + marker + after)
    else:
        data = marker + source.tobytes()[STAMP_BYTES:]
        image = image_pb2.Image(rgb=image_pb2.RawImage(width=source.shape[1], height=source.shape[0], data=data))
    before, after = _about(image, scope).SerializeToString().split(marker)
    return Question(before, after)


def _image(source: bytes | np.ndarray) -> image_pb2.Image:
    if isinstance(source, bytes):
        return image_pb2.Image(encoded=source)
    return image_pb2.Image(rgb=image_pb2.RawImage(width=source.shape[1], height=source.shape[0], data=source.tobytes()))


def _about(image: image_pb2.Image, scope: Scope | None) -> Message:
    return embedding_service_pb2.EmbedRequest(image=image) if scope is None else _search(scope, image=image)


def _search(
    scope: Scope,
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
