"""What callers may touch who are bound to some categories.

A request that names another category, or all of them, is PERMISSION_DENIED. A product of another category is as one
that does not exist; only its id is taken. Lists of categories have the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lookalike_server.domain.catalog import ProductUpsert
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.search import Query


def check_category(category: str | None, within: frozenset[str] | None) -> None:
    """Check a category that a request names; None is all of them.

    Raises:
        LookalikeError: PERMISSION_DENIED.
    """
    if within is None or category in within:
        return
    what = "all categories" if category is None else f"the category {category!r}"
    own = ", ".join(map(repr, sorted(within)))
    raise LookalikeError(Code.PERMISSION_DENIED, f"this key or token may not touch {what}, only: {own}")


def narrowed(query: Query, within: frozenset[str]) -> Query:
    """Check a query, and return it so that it finds no product of another category by its id.

    Raises:
        LookalikeError: PERMISSION_DENIED.
    """
    if query.product_id is None or query.category is not None or query.all_categories:
        check_category(query.category, within)
    return replace(query, within=within)


def split_upserts(
    upserts: Sequence[ProductUpsert], within: frozenset[str]
) -> tuple[list[ProductUpsert], list[LookalikeError | None]]:
    """Return the products that may be stored, and for each product of the request its error, or None."""
    errors: list[LookalikeError | None] = []
    for each in upserts:
        try:
            check_category(each.product.category, within)
        except LookalikeError as error:
            errors.append(error)
        else:
            errors.append(None)
    return [each for each, error in zip(upserts, errors, strict=True) if error is None], errors
