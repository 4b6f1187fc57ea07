"""Products, their images and embeddings, and the writes that change them: plain frozen data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import numpy.typing as npt

from lookalike_server.domain.inference import Floats, Image, Region

Labels = npt.NDArray[np.int64]

MAX_ATTRIBUTES = 64
"""The most attributes of a product; part of the API."""


@dataclass(frozen=True, slots=True)
class Product:
    """A product's facts."""

    id: str
    category: str
    title: str
    image_uri: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """Identifies a write that is applied at most once.

    Attributes:
        key: The request's `idempotency_key`.
        item: The product's id, because one request may write many products.
        digest: SHA-256 of the item in hexadecimal, which tells a repeat from another request with the same key.
    """

    key: str
    item: str
    digest: str


@dataclass(frozen=True, slots=True)
class ProductUpsert:
    """A product to store, with either one to eight images or one to eight vectors (float32 [dim])."""

    product: Product
    images: tuple[Image, ...]
    vectors: tuple[Floats, ...]
    idempotency_key: IdempotencyKey | None = None


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
        images: The image of each vector, None where it is not stored; empty where no image is.
    """

    product: Product
    vectors: Floats
    images: Sequence[StoredImage | None] = ()


@dataclass(frozen=True, slots=True)
class ProductDelete:
    """A product to delete."""

    product_id: str
    idempotency_key: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True)
class AttributeUpdate:
    """Attributes of a product to set, and the names of those to clear."""

    product_id: str
    attributes: Mapping[str, str]
    clear: Sequence[str]
    idempotency_key: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One image of one product in the index; labels are never reused, so `label` identifies this version of it."""

    label: int
    product_id: str
    image_index: int
    vector: Floats
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IndexChange:
    """What one committed transaction changes in the index.

    Attributes:
        removed: The rows to remove, as category and label.
        added: The rows to add, each with its category.
        updated: The rows whose attributes are replaced, as category, label and attributes.
        products: The ids of the products that were written or deleted.
    """

    removed: Sequence[tuple[str, int]] = ()
    added: Sequence[tuple[str, IndexRow]] = ()
    updated: Sequence[tuple[str, int, Mapping[str, str]]] = ()
    products: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A file of the index: its name, its size in bytes, and its SHA-256 in hexadecimal."""

    name: str
    size: int
    sha256: str


PAGE_BYTES = 4 * 1024 * 1024
"""Bytes after which a page of products ends, whatever its size in products: gRPC's clients take no more by default."""


@dataclass(frozen=True, slots=True)
class Page:
    """Products by id, and the id after which the next page begins (None: this is the last page)."""

    products: Sequence[Product]
    next_after: str | None


@dataclass(frozen=True, slots=True)
class AttributeFacet:
    """An attribute in a category: how many distinct values it has, and the most frequent ones with their counts."""

    name: str
    distinct_values: int
    top_values: Sequence[tuple[str, int]]


class IndexKind(Enum):
    """How a category is searched: by comparing every row, or by an HNSW graph."""

    FLAT = "flat"
    HNSW = "hnsw"


@dataclass(frozen=True, slots=True)
class Category:
    """A category: its number of products, how it is searched, and the measured recall (0 to 1; None: not measured)."""

    name: str
    count: int
    kind: IndexKind
    recall: float | None
    attributes: Sequence[AttributeFacet] = field(default=())
