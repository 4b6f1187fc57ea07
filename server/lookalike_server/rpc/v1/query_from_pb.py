"""Searches: the query, its options and its filters."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lookalike.v1 import search_service_pb2
from lookalike_server.domain.errors import invalid
from lookalike_server.domain.filters import Between, Condition, NoneOf, OneOf
from lookalike_server.domain.search import Query, ResultOptions
from lookalike_server.rpc.v1.fields_from_pb import check_count, name
from lookalike_server.rpc.v1.images_from_pb import image, vector

DEFAULT_K = 10
MAX_K = 1000
MAX_FILTERS = 64


def query(request: search_service_pb2.SearchRequest, dim: int) -> Query:
    """Read a SearchRequest, for a model with embeddings of `dim` dimensions."""
    kind = request.WhichOneof("query")
    if kind is None:
        raise invalid("query", "is missing; set one of image, vector and product_id")
    if request.category and request.all_categories:
        raise invalid("all_categories", "cannot be combined with category; leave one of them out")
    if not request.category and not request.all_categories and kind != "product_id":
        raise invalid("category", "is empty; name one, or set all_categories")
    return Query(
        image=image(request.image, "image") if kind == "image" else None,
        vector=vector(request.vector, "vector", dim) if kind == "vector" else None,
        product_id=name(request.product_id, "product_id") if kind == "product_id" else None,
        category=name(request.category, "category") if request.category else None,
        all_categories=request.all_categories,
        k=_k(request),
        exact=request.exact,
        conditions=_conditions(request.filters),
        options=_options(request),
    )


def _k(request: search_service_pb2.SearchRequest) -> int:
    k = request.k if request.HasField("k") else DEFAULT_K
    if not 1 <= k <= MAX_K:
        raise invalid("k", f"is {k}; send 1 to {MAX_K}")
    return k


def _options(request: search_service_pb2.SearchRequest) -> ResultOptions:
    if request.HasField("group_limit"):
        if not request.group_by:
            raise invalid("group_limit", "needs group_by, the attribute whose values make the groups; set it too")
        if request.group_limit == 0:
            raise invalid("group_limit", "is 0; send at least 1, the most products of a group")
    return ResultOptions(
        max_distance=_max_distance(request),
        group_by=name(request.group_by, "group_by") if request.group_by else "",
        group_limit=request.group_limit if request.HasField("group_limit") else 1,
        collapse=request.collapse_duplicates,
    )


def _max_distance(request: search_service_pb2.SearchRequest) -> float:
    if not request.HasField("max_distance"):
        return math.inf
    if math.isnan(request.max_distance) or request.max_distance < 0:
        raise invalid("max_distance", f"is {request.max_distance}; send 0 or more")
    return request.max_distance


def _conditions(filters: Sequence[search_service_pb2.Filter]) -> tuple[Condition, ...]:
    if len(filters) > MAX_FILTERS:
        raise invalid("filters", f"has {len(filters)} entries; send at most {MAX_FILTERS}")
    return tuple(_condition(each, f"filters[{position}]") for position, each in enumerate(filters))


def _condition(message: search_service_pb2.Filter, field: str) -> Condition:
    attribute = name(message.attribute, f"{field}.attribute")
    kind = message.WhichOneof("condition")
    if kind == "equals":
        return OneOf(attribute, frozenset((message.equals,)))
    if kind == "any_of":
        return OneOf(attribute, _values(message.any_of, f"{field}.any_of"))
    if kind == "none_of":
        return NoneOf(attribute, _values(message.none_of, f"{field}.none_of"))
    if kind == "range":
        return _between(attribute, message.range, f"{field}.range")
    raise invalid(field, "has no condition; set one of equals, any_of, none_of and range")


def _values(message: search_service_pb2.Values, field: str) -> frozenset[str]:
    check_count(len(message.values), f"{field}.values")
    return frozenset(message.values)


def _between(attribute: str, message: search_service_pb2.Range, field: str) -> Between:
    if not (message.HasField("minimum") or message.HasField("maximum")):
        raise invalid(field, "has no bound; set minimum, maximum or both")
    low = message.minimum if message.HasField("minimum") else -math.inf
    high = message.maximum if message.HasField("maximum") else math.inf
    if not low <= high:  # also where either is NaN
        raise invalid(field, f"must hold minimum <= maximum; got {low} and {high}")
    return Between(attribute, low, high)
