"""Categories as values of a label: the largest by name, and all others together, because callers make up the names."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from lookalike_server.index.row_counts import RowCounts
from lookalike_server.pausing import pausing

MAX_CATEGORIES = 100
"""Categories with a series of their own."""

OTHERS = "other"
"""The label of the others; a category with this name is one of them."""


def bounded(counts: Iterable[tuple[str | None, RowCounts]]) -> dict[str, RowCounts]:
    """Return the rows of the largest categories by name and of the others together, `OTHERS` always among them.

    Args:
        counts: Categories with their rows, in any order, one more than are kept, because one may be called `OTHERS`;
            and under None the rows of others.
    """
    named: list[tuple[int, str, RowCounts]] = []
    totals = [0, 0, 0]
    for category, rows in pausing(counts):
        live, dead, waiting = rows
        totals[0] += live
        totals[1] += dead
        totals[2] += waiting
        if category is not None and category != OTHERS:
            named.append((live, category, rows))
    largest = {category: rows for _, category, rows in heapq.nlargest(MAX_CATEGORIES, pausing(named))}
    for kept in largest.values():
        for at, count in enumerate(kept):
            totals[at] -= count
    return {**largest, OTHERS: RowCounts(*totals)}


def bounded_recalls(recalls: Mapping[str, float], names: Iterable[str]) -> dict[str, float]:
    """Return the recall of the categories with these names, and the least of the others as that of `OTHERS`."""
    kept = {category: recalls[category] for category in names if category in recalls and category != OTHERS}
    others = [recall for category, recall in recalls.items() if category not in kept]
    return {**kept, OTHERS: min(others)} if others else kept
