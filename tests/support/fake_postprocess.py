"""Which products the fake server's answers show: filters, groups and duplicates, written as simply as can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from lookalike.v1 import product_pb2, search_service_pb2


def passes(product: product_pb2.Product, filters: Iterable[search_service_pb2.Filter]) -> bool:
    """Whether all conditions hold."""
    return all(_holds(each, product.attributes.get(each.attribute)) for each in filters)


def _holds(condition: search_service_pb2.Filter, value: str | None) -> bool:
    kind = condition.WhichOneof("condition")
    if kind == "none_of":
        return value not in condition.none_of.values
    if value is None:
        return False
    if kind == "equals":
        return value == condition.equals
    if kind == "any_of":
        return value in condition.any_of.values
    bounds = condition.range
    low = bounds.minimum if bounds.HasField("minimum") else float("-inf")
    high = bounds.maximum if bounds.HasField("maximum") else float("inf")
    return low <= float(value) <= high


def shown(
    neighbors: Iterable[search_service_pb2.Neighbor], request: search_service_pb2.SearchRequest
) -> list[search_service_pb2.Neighbor]:
    """Of the neighbors, nearest first, those that the answer shows."""
    answer: list[search_service_pb2.Neighbor] = []
    groups: Counter[str] = Counter()
    limit = request.group_limit if request.HasField("group_limit") else 1
    for each in neighbors:
        if request.collapse_duplicates and answer and answer[-1].distance == each.distance:
            answer[-1].duplicates.append(each.product)
            continue
        group = each.product.attributes.get(request.group_by)
        if group is not None:
            if groups[group] == limit:
                continue
            groups[group] += 1
        answer.append(each)
    return answer[: request.k if request.HasField("k") else 10]
