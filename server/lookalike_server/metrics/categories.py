"""Categories as values of a label: the largest by name, and all others together, because callers make up the names."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping

from lookalike_server.index.row_counts import RowCounts

MAX_CATEGORIES = 100
"""Categories with a series of their own."""

OTHERS = "other"
"""The label of the others; a category with this name is one of them."""


def bounded(counts: Iterable[tuple[str | None, RowCounts]]) -> dict[str, RowCounts]:
    """Return the rows of the largest categories by name and of the others together, `OTHERS` always among them.

    Args:
        counts: Categories with their rows, in any order, and under None rows of no one category.
    """
    named: dict[str, RowCounts] = {}
    others = RowCounts(0)
    for category, rows in counts:
        if category is None or category == OTHERS:
            others = others.plus(rows)
        else:
            named[category] = rows
    largest = heapq.nsmallest(MAX_CATEGORIES, named, key=lambda each: (-named[each].live, each))
    kept = {category: named.pop(category) for category in largest}
    sums = Counter[str]()
    for rows in named.values():
        sums.update(rows._asdict())
    return {**kept, OTHERS: others.plus(RowCounts(sums["live"], sums["dead"], sums["waiting"]))}


def bounded_recalls(recalls: Mapping[str, float], names: Iterable[str]) -> dict[str, float]:
    """Return the recall of the categories with these names, and the least of the others as that of `OTHERS`."""
    kept = {category: recalls[category] for category in names if category in recalls and category != OTHERS}
    others = [recall for category, recall in recalls.items() if category not in kept]
    return {**kept, OTHERS: min(others)} if others else kept
