"""Which of the nearest products a result lists: groups, duplicates, a maximal distance."""

from __future__ import annotations

import numpy as np
import pytest

from lookalike_server.domain.catalog import Product
from lookalike_server.domain.inference import Floats
from lookalike_server.domain.search import Hit, ResultOptions
from lookalike_server.search.postprocess import SAME_EMBEDDING, postprocess

EMBEDDINGS: Floats = np.eye(8, dtype=np.float32)


class Rows:
    """Hits at given distances, each with an embedding and a brand."""

    def __init__(self, *rows: tuple[str, float, int, str | None]) -> None:
        self.hits = [Hit(product_id, 0, distance) for product_id, distance, _, _ in rows]
        self.embeddings = {product_id: embedding for product_id, _, embedding, _ in rows}
        self.products = {
            product_id: Product(product_id, "c", "", "", {} if brand is None else {"brand": brand})
            for product_id, _, _, brand in rows
        }

    def postprocess(self, k: int, options: ResultOptions) -> tuple[list[tuple[str, list[str]]], bool]:
        """Return the products listed, each with its duplicates, and whether that is final."""
        groups, final = postprocess(self.hits, k, options, self.products, self._vector_of, query_norm=1.0)
        return [(group.hit.product_id, group.duplicates) for group in groups], final

    def _vector_of(self, hit: Hit) -> Floats:
        embedding: Floats = EMBEDDINGS[self.embeddings[hit.product_id]]
        return embedding


ROWS = Rows(
    ("a", 0.1, 0, "x"),
    ("b", 0.1, 0, "x"),  # a duplicate of a
    ("c", 0.1, 1, "y"),  # as far away, with another embedding
    ("d", 0.1, 0, "y"),  # a duplicate of a, behind another product
    ("e", 0.3, 2, "x"),
    ("f", 0.4, 0, None),  # the embedding of a, but at a distance at which it cannot be the same
    ("g", 0.5, 3, None),
)


def test_as_they_come() -> None:
    """Without options the nearest k are listed, and k of them are final."""
    assert ROWS.postprocess(3, ResultOptions()) == ([("a", []), ("b", []), ("c", [])], True)
    assert ROWS.postprocess(8, ResultOptions())[1] is False


def test_limit_of_distance() -> None:
    """Nothing beyond the maximal distance is listed, and a hit beyond it makes the result final."""
    assert ROWS.postprocess(8, ResultOptions(max_distance=0.1)) == ([("a", []), ("b", []), ("c", []), ("d", [])], True)


@pytest.mark.parametrize("limit", [1, 2])
def test_groups(limit: int) -> None:
    """Of products that share a value so many are listed; those without a value are in no group."""
    listed, final = ROWS.postprocess(8, ResultOptions(group_by="brand", group_limit=limit))
    assert [name for name, _ in listed] == {1: ["a", "c", "f", "g"], 2: ["a", "b", "c", "d", "f", "g"]}[limit]
    assert final is False


def test_duplicates() -> None:
    """Products with the same embedding are listed as one with its duplicates, also with another between them."""
    listed, _ = ROWS.postprocess(8, ResultOptions(collapse=True))
    assert listed == [("a", ["b", "d"]), ("c", []), ("e", []), ("f", []), ("g", [])]


def test_duplicates_of_the_last_product_are_found() -> None:
    """With k products the result is not final while the next hit may be a duplicate of the last one."""
    assert ROWS.postprocess(2, ResultOptions(collapse=True)) == ([("a", ["b", "d"]), ("c", [])], True)
    assert Rows(("a", 0.1, 0, None), ("b", 0.1, 0, None)).postprocess(1, ResultOptions(collapse=True)) == (
        [("a", ["b"])],
        False,
    )


def test_rounding_is_no_difference() -> None:
    """Embeddings within the tolerance are the same; twice as far apart they are not."""
    for apart, expected in ((0.5, [("a", ["b"])]), (2.0, [("a", []), ("b", [])])):
        rows = Rows(("a", 0.1, 0, None), ("b", 0.1 + SAME_EMBEDDING / 10, 0, None))
        other = EMBEDDINGS[0] + np.float32(apart * SAME_EMBEDDING) * EMBEDDINGS[1]

        def vector_of(hit: Hit, other: Floats = other) -> Floats:
            return EMBEDDINGS[0] if hit.product_id == "a" else other

        options = ResultOptions(collapse=True)
        groups, _ = postprocess(rows.hits, 8, options, rows.products, vector_of, query_norm=1.0)
        assert [(group.hit.product_id, group.duplicates) for group in groups] == expected


def test_groups_and_duplicates_together() -> None:
    """A duplicate of a listed product does not count in its group."""
    listed, _ = ROWS.postprocess(8, ResultOptions(group_by="brand", group_limit=2, collapse=True))
    assert listed == [("a", ["b", "d"]), ("c", []), ("e", []), ("f", []), ("g", [])]


def test_deleted_meanwhile() -> None:
    """A product that was deleted since the index was searched is left out, and another takes its place."""
    rows = Rows(("a", 0.1, 0, None), ("b", 0.2, 1, None), ("c", 0.3, 2, None))
    del rows.products["a"]
    assert rows.postprocess(2, ResultOptions()) == ([("b", []), ("c", [])], True)
