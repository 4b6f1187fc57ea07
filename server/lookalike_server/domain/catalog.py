"""Products, their images and embeddings, and what a write changes: plain frozen data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from lookalike_server.domain.inference import Floats, Image, Region

MAX_ATTRIBUTES = 64
"""Attributes that a product may have; the API promises this number."""


@dataclass(frozen=True, slots=True)
class Product:
    """What a shop knows of a product."""

    id: str
    category: str
    title: str
    image_uri: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """Identifies a write that is done at most once: the request's key, the item in it, and a digest of the item."""

    key: str
    item: str
    digest: str


@dataclass(frozen=True, slots=True)
class ProductUpsert:
    """A product to store: its facts, and either one to eight images or one to eight vectors (float32 [dim])."""

    product: Product
    images: tuple[Image, ...]
    vectors: tuple[Floats, ...]
    name: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image file as it was sent, and the part of it that was embedded (None: all of it)."""

    sha256: str
    media_type: str
    data: bytes
    region: Region | None = None


@dataclass(frozen=True, slots=True)
class EmbeddedProduct:
    """A product with its embeddings: ready to store, or read back (then without images).

    Attributes:
        product: Its facts.
        vectors: float32 [images, dim], of length 1 where the metric is cosine.
        images: What each vector was made of, None where that is not kept; empty where none is.
    """

    product: Product
    vectors: Floats
    images: Sequence[StoredImage | None] = ()


@dataclass(frozen=True, slots=True)
class ProductDelete:
    """A product to remove."""

    product_id: str
    name: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True)
class AttributeUpdate:
    """Attributes of a product to give values, and those to clear."""

    product_id: str
    values: Mapping[str, str]
    cleared: Sequence[str]
    name: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One image of one product in the index; `label` is never used again, so it names this version of the product."""

    label: int
    product_id: str
    image_index: int
    vector: Floats
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IndexChange:
    """What one committed transaction means for the index.

    Attributes:
        removed: Rows gone, by category and label.
        added: Rows new, by category.
        described: Rows whose attributes are now these and no others, by category and label.
    """

    removed: Sequence[tuple[str, int]] = ()
    added: Sequence[tuple[str, IndexRow]] = ()
    described: Sequence[tuple[str, int, Mapping[str, str]]] = ()


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A file of the index that can be trusted: its name, its size in bytes, and its sha256 in hexadecimal."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Page:
    """Products in the order of their ids, and the id after which the next page begins (None: this was the last)."""

    products: Sequence[Product]
    next_after: str | None


@dataclass(frozen=True, slots=True)
class AttributeFacet:
    """An attribute in a category: how many different values, and the most frequent of them with their counts."""

    name: str
    distinct_values: int
    top_values: Sequence[tuple[str, int]]


class IndexKind(Enum):
    """How a category is searched: every row compared, or an HNSW graph choosing the rows."""

    FLAT = "flat"
    HNSW = "hnsw"


@dataclass(frozen=True, slots=True)
class Category:
    """One partition: its products, how it is searched, and what share of exact answers that finds, where known."""

    name: str
    count: int
    kind: IndexKind
    recall: float | None
    attributes: Sequence[AttributeFacet] = field(default=())
