"""Queries and results of a search: plain frozen data.

`Query` (what was asked) -> `EmbeddedQuery` (with its vectors) -> `IndexQuery` and `IndexResult` (ids and distances)
-> `SearchResult` (products).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from lookalike_server.domain.catalog import Product
from lookalike_server.domain.filters import Condition
from lookalike_server.domain.inference import Floats, Image, ResponseStats


@dataclass(frozen=True, slots=True)
class ResultOptions:
    """Which of the nearest products a result lists.

    Attributes:
        max_distance: The largest distance listed; infinite for no limit.
        group_by: The attribute whose values make the groups; empty for no groups.
        group_limit: The most products of one group.
        collapse: Whether products with the same embedding are listed as one.
    """

    max_distance: float = math.inf
    group_by: str = ""
    group_limit: int = 1
    collapse: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A search as it was asked: exactly one of `image`, `vector` (float32 [dim]) and `product_id`.

    `category` None means every category, or with `product_id` and without `all_categories` the product's own. Where
    `within` is not None, the product must be of one of these categories, or is unknown.
    """

    image: Image | None = None
    vector: Floats | None = None
    product_id: str | None = None
    category: str | None = None
    all_categories: bool = False
    k: int = 10
    exact: bool = False
    conditions: tuple[Condition, ...] = ()
    options: ResultOptions = ResultOptions()
    within: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class EmbeddedQuery:
    """A query with its vectors, float32 [images, dim]; None while those of the product it names are still unread."""

    query: Query
    vectors: Floats | None


@dataclass(frozen=True, slots=True)
class IndexQuery:
    """One query to the index: the `k` products nearest to any of `vectors` (float32 [m, dim]), without `exclude`."""

    vectors: Floats
    k: int
    exclude: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A product that the index found: its nearest image and the distance to it."""

    product_id: str
    image_index: int
    distance: float


@dataclass(frozen=True, slots=True)
class IndexResult:
    """The hits of one query, nearest first and equally near by product id, and whether every row was compared."""

    hits: Sequence[Hit]
    exact: bool


@dataclass(slots=True)
class ResultGroup:
    """A hit that a result lists, and the ids of the products listed as its duplicates."""

    hit: Hit
    duplicates: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A product that looks like the query, and the products listed as its duplicates."""

    product: Product
    distance: float
    similarity: float
    image_index: int
    duplicates: Sequence[Product] = ()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The neighbors, nearest first, and the stats of the search."""

    neighbors: Sequence[Neighbor]
    stats: ResponseStats
