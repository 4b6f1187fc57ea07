"""How many rows categories have, for who looks at the index from outside."""

from __future__ import annotations

from typing import NamedTuple


class RowCounts(NamedTuple):
    """Rows of a category, one for each image of a product.

    Attributes:
        live: Rows that searches find.
        dead: Deleted rows that are still in memory.
        waiting: Live and deleted rows that wait for a graph and are compared one by one.
    """

    live: int
    dead: int = 0
    waiting: int = 0
