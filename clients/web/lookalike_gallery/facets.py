"""Which attributes are worth a filter or a chart, from the values the server counted; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from lookalike_client import Category


@dataclass(frozen=True, slots=True)
class Offer:
    """An attribute that some products share values of.

    Attributes:
        name: Its name.
        values: Its most frequent values and how many products have each, most frequent first.
        more: Whether there are values that the server did not list.
        bounds: The smallest and the largest value listed, where all are numbers; else None.
    """

    name: str
    values: tuple[tuple[str, int], ...]
    more: bool
    bounds: tuple[float, float] | None


def offers(categories: Iterable[Category]) -> list[Offer]:
    """The attributes of some categories together, by name, without those that cannot divide the products.

    An attribute with one value leaves all products or none, and one whose every value is unique is a name, not a fact;
    numbers are kept, because a range of them is a fact.
    """
    counts: dict[str, Counter[str]] = {}
    unlisted: set[str] = set()
    for category in categories:
        for attribute in category.attributes:
            counted = counts.setdefault(attribute.name, Counter())
            counted.update({each.value: each.count for each in attribute.top_values})
            if attribute.distinct_values > len(attribute.top_values):
                unlisted.add(attribute.name)
    found = []
    for name in sorted(counts):
        values = tuple(sorted(counts[name].items(), key=lambda each: (-each[1], each[0])))
        numbers = [number for value, _ in values if (number := _number(value)) is not None]
        bounds = (min(numbers), max(numbers)) if len(numbers) == len(values) and len(values) > 1 else None
        if len(values) > 1 and (bounds or values[0][1] > 1):
            found.append(Offer(name, values, name in unlisted, bounds))
    return found


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None
