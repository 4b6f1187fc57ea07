"""What an answer shows of the nearest products, by itself: groups, duplicates, a limit of distance."""

from __future__ import annotations

import numpy as np
import pytest

from lookalike_server.domain.catalog import Product
from lookalike_server.domain.inference import Floats
from lookalike_server.domain.search import Hit, ResultOptions
from lookalike_server.search.postprocess import SAME, arrange

LOOKS = np.eye(8, dtype=np.float32)


class Rows:
    """IndexResult at given distances, each with a look and a brand."""

    def __init__(self, *rows: tuple[str, float, int, str | None]) -> None:
        self.hits = [Hit(product_id, 0, distance) for product_id, distance, _, _ in rows]
        self.looks = {product_id: look for product_id, _, look, _ in rows}
        self.products = {
            product_id: Product(product_id, "c", "", "", {} if brand is None else {"brand": brand})
            for product_id, _, _, brand in rows
        }

    def arrange(self, k: int, shape: ResultOptions) -> tuple[list[tuple[str, list[str]]], bool]:
        """Who is shown with which duplicates, and whether that is settled."""
        shaped = arrange(self.hits, k, shape, self.products, lambda hit: LOOKS[self.looks[hit.product_id]], reach=1.0)
        return [(each.hit.product_id, each.duplicates) for each in shaped.shown], shaped.settled


ROWS = Rows(
    ("a", 0.1, 0, "x"),
    ("b", 0.1, 0, "x"),  # a's twin
    ("c", 0.1, 1, "y"),  # as far away, and looks different
    ("d", 0.1, 0, "y"),  # a's twin, behind another
    ("e", 0.3, 2, "x"),
    ("f", 0.4, 0, None),  # looks like a, but stands too far away to be the same: its image is another
    ("g", 0.5, 3, None),
)


def test_as_they_come() -> None:
    """Without a shape the nearest k are shown, and k of them settle it."""
    assert ROWS.arrange(3, ResultOptions()) == ([("a", []), ("b", []), ("c", [])], True)
    assert ROWS.arrange(8, ResultOptions())[1] is False


def test_limit_of_distance() -> None:
    """Nothing beyond the limit is shown, and what lies beyond settles that there is no more."""
    assert ROWS.arrange(8, ResultOptions(max_distance=0.1)) == ([("a", []), ("b", []), ("c", []), ("d", [])], True)


@pytest.mark.parametrize("limit", [1, 2])
def test_groups(limit: int) -> None:
    """Of products that share a value so many are shown; those without a value are in no group."""
    shown, settled = ROWS.arrange(8, ResultOptions(group_by="brand", group_limit=limit))
    assert [name for name, _ in shown] == {1: ["a", "c", "f", "g"], 2: ["a", "b", "c", "d", "f", "g"]}[limit]
    assert settled is False


def test_duplicates() -> None:
    """Products that look the same are one answer that lists the others, also where another stands between them."""
    shown, _ = ROWS.arrange(8, ResultOptions(collapse=True))
    assert shown == [("a", ["b", "d"]), ("c", []), ("e", []), ("f", []), ("g", [])]


def test_duplicates_of_the_last_answer_are_looked_for() -> None:
    """K answers do not settle it while the next product may look like one of them; then its duplicates are whole."""
    assert ROWS.arrange(2, ResultOptions(collapse=True)) == ([("a", ["b", "d"]), ("c", [])], True)
    assert Rows(("a", 0.1, 0, None), ("b", 0.1, 0, None)).arrange(1, ResultOptions(collapse=True)) == (
        [("a", ["b"])],
        False,
    )


def test_rounding_is_no_difference() -> None:
    """Embeddings within rounding of each other are the same; twice as far apart as that they are not."""
    for apart, expected in ((0.5, [("a", ["b"])]), (2.0, [("a", []), ("b", [])])):
        rows = Rows(("a", 0.1, 0, None), ("b", 0.1 + SAME / 10, 0, None))
        other = LOOKS[0] + np.float32(apart * SAME) * LOOKS[1]

        def vector_of(hit: Hit, other: Floats = other) -> Floats:
            return LOOKS[0] if hit.product_id == "a" else other

        shaped = arrange(rows.hits, 8, ResultOptions(collapse=True), rows.products, vector_of, reach=1.0)
        assert [(each.hit.product_id, each.duplicates) for each in shaped.shown] == expected


def test_groups_and_duplicates_together() -> None:
    """A duplicate of someone shown takes no place in a group."""
    shown, _ = ROWS.arrange(8, ResultOptions(group_by="brand", group_limit=2, collapse=True))
    assert shown == [("a", ["b", "d"]), ("c", []), ("e", []), ("f", []), ("g", [])]


def test_deleted_meanwhile() -> None:
    """A product that was deleted since the index was asked is no answer, and another takes its place."""
    rows = Rows(("a", 0.1, 0, None), ("b", 0.2, 1, None), ("c", 0.3, 2, None))
    del rows.products["a"]
    assert rows.arrange(2, ResultOptions()) == ([("b", []), ("c", [])], True)
