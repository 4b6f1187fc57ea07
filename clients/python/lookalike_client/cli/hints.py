"""What to do about a search that found nothing because nothing in the catalog has the name that was asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

import grpc

from lookalike_client.cli.session import CommandFailed, Session, printable
from lookalike_client.client import Client
from lookalike_client.errors import LookalikeError
from lookalike_client.filters import AnyOf, Between, Equals, Filter
from lookalike_client.types import AttributeFacet, Product

_TIMEOUT_S = 10.0
_MAX_LISTED = 10
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def did_you_mean(name: str, known: Iterable[str], what: str) -> str:
    """Return a clause about a name that is not among those known: the nearest ones, or else the first of all.

    Args:
        name: The name that nothing has.
        known: The names that there are.
        what: What they are, in the plural.

    Returns:
        Empty where no names are known.
    """
    names = sorted(set(known))
    folded: dict[str, list[str]] = {}
    for each in names:
        folded.setdefault(each.casefold(), []).append(each)
    near = [each for match in get_close_matches(name.casefold(), folded) for each in folded[match]][:3]
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    more = ", ..." if len(names) > _MAX_LISTED else ""
    return f"the {what} are: {', '.join(map(repr, names[:_MAX_LISTED]))}{more}" if names else ""


@contextmanager
def category_hints(session: Session, category: str) -> Iterator[None]:
    """Add to the error about a category that does not exist which one may be meant.

    Raises:
        CommandFailed: There is no such category, with a hint.
        LookalikeError: Any other error, as it is.
    """
    try:
        yield
    except LookalikeError as error:
        if error.code is not grpc.StatusCode.NOT_FOUND or not category:
            raise
        try:
            with session.client() as client:
                known = [each.name for each in client.categories(timeout=_TIMEOUT_S)]
        except LookalikeError:
            raise error from None
        hint = "" if category in known else did_you_mean(category, known, "categories")
        if not hint:
            raise
        raise CommandFailed(printable(f"{session.explain(error)}; {hint}")) from error


def attribute_hints(
    client: Client, shown: Sequence[Product], filters: Sequence[Filter], group_by: str, category: str
) -> list[str]:
    """Return a sentence for each attribute, or value, of a search that no product has.

    Args:
        client: Asked for the catalog's attributes, which reads every product, only where a name is in doubt.
        shown: The products that were found.
        filters: The conditions of the search.
        group_by: The attribute to group by; empty for none.
        category: The category searched; empty for another way to say which.

    Returns:
        Nothing where the server does not tell the attributes in time.
    """
    names = {each.attribute for each in filters} | ({group_by} if group_by else set())
    doubtful = {name for name in names if not any(name in product.attributes for product in shown)}
    if not doubtful:
        return []
    try:
        categories = client.categories(include_attributes=True, timeout=_TIMEOUT_S)
    except LookalikeError:
        return []
    facets: dict[str, list[AttributeFacet]] = {}
    for each in categories:
        for facet in each.attributes if category in ("", each.name) else ():
            facets.setdefault(facet.name, []).append(facet)
    of = f" of category {category!r}" if category else ""
    hints = [
        f"no product{of} has the attribute {name!r}; {did_you_mean(name, facets, 'attributes')}".rstrip("; ")
        for name in sorted(doubtful - set(facets))
    ]
    for condition in () if shown else filters:
        hints += _value_hints(condition, facets.get(condition.attribute, ()), of)
    return hints


def _value_hints(condition: Filter, facets: Sequence[AttributeFacet], of: str) -> list[str]:
    values = {each.value for facet in facets for each in facet.top_values}
    complete = all(facet.distinct_values == len(facet.top_values) for facet in facets)
    if not values:
        return []
    name = condition.attribute
    if isinstance(condition, Between):
        if any(_NUMBER.fullmatch(value.strip()) for value in values):
            return []
        return [f"a range compares numbers, and the values of {name!r} are not, as {min(values)!r}"]
    wanted: list[str] = []
    if isinstance(condition, Equals | AnyOf):
        wanted = [condition.value] if isinstance(condition, Equals) else list(condition.values)
    if not complete or values & set(wanted):
        return []
    return [f"no product{of} has {name}={each}; {did_you_mean(each, values, f'values of {name!r}')}" for each in wanted]
