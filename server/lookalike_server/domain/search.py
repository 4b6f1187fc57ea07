"""Queries and results of a search: plain frozen data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lookalike_server.domain.catalog import Product
from lookalike_server.domain.filters import Condition
from lookalike_server.domain.inference import Floats, Image, ResponseStats


@dataclass(frozen=True, slots=True)
class Hit:
    """A product found: its nearest image and how far away that is."""

    product_id: str
    image_index: int
    distance: float


@dataclass(frozen=True, slots=True)
class IndexResult:
    """What a search found, nearest first, equally near by product id, and whether it compared every row."""

    hits: Sequence[Hit]
    exact: bool


@dataclass(frozen=True, slots=True)
class ResultOptions:
    """What of the nearest products is shown.

    Attributes:
        max_distance: None beyond this; infinite for no limit.
        group_by: An attribute; empty for no groups.
        group_limit: Of products that share a value of it, so many are shown.
        collapse: Products with the same embedding are one answer.
    """

    max_distance: float = math.inf
    group_by: str = ""
    group_limit: int = 1
    collapse: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A query: exactly one of `image`, `vector` (float32 [dim]) and `product_id`.

    `category` None means every category, or with `product_id` and without `all_categories` the product's own.
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


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A product that looks like the query, and those that were made one with it."""

    product: Product
    distance: float
    similarity: float
    image_index: int
    duplicates: Sequence[Product] = ()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The neighbors, nearest first, and what they cost."""

    neighbors: Sequence[Neighbor]
    stats: ResponseStats


@dataclass(frozen=True, slots=True)
class IndexQuery:
    """What one caller asks an index: the k products nearest to any of `vectors` (float32 [m, dim]) but `exclude`."""

    vectors: Floats
    k: int
    exclude: str | None = None
