"""What of the nearest products an answer shows: not too many of a group, and products that look the same only once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lookalike_server.domain.catalog import Product
from lookalike_server.domain.inference import Floats
from lookalike_server.domain.search import Hit, ResultOptions

SAME = 1e-4
"""Embeddings this close, relative to their length, are the same one: more than the rounding of different batches."""

VectorOf = Callable[[Hit], Floats]


@dataclass(slots=True)
class Shown:
    """A product of an answer, and those that look the same."""

    hit: Hit
    duplicates: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Shaped:
    """What was made of some hits, and whether more hits could not change it."""

    shown: Sequence[Shown]
    settled: bool


def arrange(
    hits: Sequence[Hit],
    k: int,
    shape: ResultOptions,
    products: Mapping[str, Product],
    vector_of: VectorOf,
    reach: float,
) -> Shaped:
    """Make an answer of the nearest hits.

    Args:
        hits: Nearest first, equally near by product id.
        k: The most products shown.
        shape: What is shown.
        products: By id; a hit whose product is missing was deleted meanwhile and is no answer.
        vector_of: The embedding that a hit was found by, float32 [dim].
        reach: Length of the query's longest vector.
    """
    shown: list[Shown] = []
    groups: Counter[str] = Counter()
    for hit in hits:
        if hit.distance > shape.max_distance:
            return Shaped(shown, settled=True)
        if len(shown) == k and not (shape.collapse and _near(shown[-1].hit, hit, reach)):
            return Shaped(shown, settled=True)
        product = products.get(hit.product_id)
        if product is None:
            continue
        twin = _twin(shown, hit, vector_of, reach) if shape.collapse else None
        if twin is not None:
            twin.duplicates.append(hit.product_id)
            continue
        if len(shown) == k:
            continue
        value = product.attributes.get(shape.group_by) if shape.group_by else None
        if value is not None:
            if groups[value] == shape.group_limit:
                continue
            groups[value] += 1
        shown.append(Shown(hit))
    return Shaped(shown, settled=len(shown) == k and not shape.collapse)


def _twin(shown: Sequence[Shown], hit: Hit, vector_of: VectorOf, reach: float) -> Shown | None:
    """Whom of those shown this one looks the same as; only hits about as far away can."""
    for each in reversed(shown):
        if not _near(each.hit, hit, reach):
            return None
        if _same(vector_of(each.hit), vector_of(hit)):
            return each
    return None


def _near(nearer: Hit, hit: Hit, reach: float) -> bool:
    """Whether both can be the same: their distances then differ by at most SAME times their length.

    A vector is at most as long as the query's and the distance between them together. Cosine distances between
    vectors of length 1 differ by at most the distance of those vectors.
    """
    return hit.distance - nearer.distance <= SAME * (reach + hit.distance)


def _same(one: Floats, other: Floats) -> bool:
    length = max(float(np.linalg.norm(one)), float(np.linalg.norm(other)))
    return float(np.linalg.norm(one - other)) <= SAME * length
