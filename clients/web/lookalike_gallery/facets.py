"""Merges the attribute facets of several categories for the filters and charts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from lookalike_client import Category
from lookalike_gallery.escape_markdown import escape_markdown


@dataclass(frozen=True, slots=True)
class Facet:
    """An attribute whose values divide the products.

    Attributes:
        name: Its name.
        values: Its most frequent values and the number of products with each, most frequent first.
        truncated: Whether it has values that the server did not list.
        bounds: The smallest and the largest value listed, if all are numbers; else None.
    """

    name: str
    values: tuple[tuple[str, int], ...]
    truncated: bool
    bounds: tuple[float, float] | None


def facet_label(name: str) -> str:
    """Name an attribute; one called as the partitions that are searched says that it is none of them."""
    label = escape_markdown(name.replace("_", " "))
    return f"{label} (attribute)" if name.casefold() in {"category", "categories"} else label


def merge_facets(categories: Iterable[Category]) -> list[Facet]:
    """Merge the attributes of some categories, ordered by name, and keep those that divide the products.

    Left out are attributes with a single value, and attributes whose values are all unique (such as an SKU) unless
    they are numbers, which can be filtered by range.
    """
    counts: dict[str, Counter[str]] = {}
    truncated: set[str] = set()
    for category in categories:
        for attribute in category.attributes:
            counted = counts.setdefault(attribute.name, Counter())
            counted.update({each.value: each.count for each in attribute.top_values})
            if attribute.distinct_values > len(attribute.top_values):
                truncated.add(attribute.name)
    facets = []
    for name in sorted(counts):
        values = tuple(sorted(counts[name].items(), key=lambda each: (-each[1], each[0])))
        numbers = [number for value, _ in values if (number := _number(value)) is not None]
        bounds = (min(numbers), max(numbers)) if len(numbers) == len(values) and len(values) > 1 else None
        if len(values) > 1 and (bounds or values[0][1] > 1):
            facets.append(Facet(name, values, name in truncated, bounds))
    return facets


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None
