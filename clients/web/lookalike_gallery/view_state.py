"""The state of the Search page, and its URL parameters.

A URL is untrusted, so every parameter is validated: invalid ones are left out and reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from lookalike_client import AnyOf, Between, Filter

Start = Literal["browse", "id", "image"]
_STARTS: dict[str, Start] = {"browse": "browse", "id": "id", "image": "image"}

MAX_K = 100
MAX_PAGE = 200
_MAX_NAME_BYTES = 256
_MAX_VALUE_BYTES = 4096
_MAX_VALUES = 100
_MAX_FILTERS = 64

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class View:
    """The state of the Search page.

    Attributes:
        start: Where the query comes from: a page of thumbnails, an id, or an image (which is not part of the URL).
        product: The id of the query product; empty if there is none.
        browse: The category whose thumbnails are shown; empty for all.
        title: The text that the titles or ids of the thumbnails' products contain; empty for all.
        page: The page of thumbnails, from 1.
        category: The category to search; empty for the product's own or, for an image, all of them.
        all_categories: Whether every category is searched.
        k: The number of neighbors, 1 to MAX_K.
        values: The allowed values by attribute.
        ranges: The smallest and the largest allowed number by attribute; None for no bound.
        group_by: The attribute to group by, which shows the nearest product per value; empty for none.
        collapse: Whether products with the same image are collapsed into one.
    """

    start: Start = "browse"
    product: str = ""
    browse: str = ""
    title: str = ""
    page: int = 1
    category: str = ""
    all_categories: bool = False
    k: int = 12
    values: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ranges: tuple[tuple[str, float | None, float | None], ...] = ()
    group_by: str = ""
    collapse: bool = True

    @property
    def filters(self) -> list[Filter]:
        """The filters of the search call."""
        filters: list[Filter] = [AnyOf(name, values) for name, values in self.values]
        return filters + [Between(name, low, high) for name, low, high in self.ranges]


def to_params(view: View) -> dict[str, list[str]]:
    """Return the URL parameters of a view, without those that have their default."""
    default = View()
    params: dict[str, list[str]] = {}
    if view.start != default.start:
        params["from"] = [view.start]
    for name, text in (
        ("id", view.product),
        ("browse", view.browse),
        ("title", view.title),
        ("category", view.category),
        ("group", view.group_by),
    ):
        if text:
            params[name] = [text]
    if view.page != default.page:
        params["page"] = [str(view.page)]
    if view.all_categories:
        params["everywhere"] = ["1"]
    if view.k != default.k:
        params["k"] = [str(view.k)]
    if not view.collapse:
        params["collapse"] = ["0"]
    for name, values in view.values:
        params[f"is.{name}"] = list(values)
    for name, low, high in view.ranges:
        if low is not None:
            params[f"min.{name}"] = [repr(low)]
        if high is not None:
            params[f"max.{name}"] = [repr(high)]
    return params


def from_params(params: Mapping[str, Iterable[str]]) -> tuple[View, list[str]]:
    """Return the view of URL parameters, and the names of the invalid ones, which are left out."""
    given = {name: list(values) for name, values in params.items()}
    ignored: list[str] = []

    def take(name: str, parse: Callable[[str], Value], default: Value) -> Value:
        values = given.pop(name, None)
        if values is None:
            return default
        try:
            (text,) = values
            return parse(text)
        except ValueError:
            ignored.append(name)
            return default

    view = View(
        start=take("from", _start, "id" if "id" in given else "browse"),
        product=take("id", _name, ""),
        browse=take("browse", _name, ""),
        title=take("title", _name, ""),
        page=take("page", lambda text: _integer(text, MAX_PAGE), 1),
        category=take("category", _name, ""),
        all_categories=take("everywhere", _boolean, False),
        k=take("k", lambda text: _integer(text, MAX_K), View().k),
        group_by=take("group", _name, ""),
        collapse=take("collapse", _boolean, True),
        values=_values(given, ignored),
        ranges=_ranges(given, ignored),
    )
    return view, ignored + list(given)


def _values(given: dict[str, list[str]], ignored: list[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    filters: list[tuple[str, tuple[str, ...]]] = []
    for parameter in [each for each in given if each.startswith("is.")]:
        values = given.pop(parameter)
        try:
            name = _name(parameter.removeprefix("is."))
            if not 1 <= len(values) <= _MAX_VALUES or len(filters) == _MAX_FILTERS // 2:
                raise ValueError
            filters.append((name, tuple(_text(value, _MAX_VALUE_BYTES) for value in values)))
        except ValueError:
            ignored.append(parameter)
    return tuple(filters)


def _ranges(given: dict[str, list[str]], ignored: list[str]) -> tuple[tuple[str, float | None, float | None], ...]:
    bounds: dict[str, dict[str, float]] = {}
    for parameter in [each for each in given if each.startswith(("min.", "max."))]:
        values = given.pop(parameter)
        try:
            (text,) = values
            name = _name(parameter[4:])
            number = float(text)
            if not math.isfinite(number) or (name not in bounds and len(bounds) == _MAX_FILTERS // 2):
                raise ValueError
            bounds.setdefault(name, {})[parameter[:3]] = number
        except ValueError:
            ignored.append(parameter)
    return tuple((name, each.get("min"), each.get("max")) for name, each in bounds.items())


def _start(text: str) -> Start:
    return _one_of(_STARTS, text)


def _integer(text: str, maximum: int) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= maximum) or len(text) > len(str(maximum)):
        raise ValueError
    return int(text)


def _boolean(text: str) -> bool:
    return _one_of({"0": False, "1": True}, text)


def _one_of(values: Mapping[str, Value], text: str) -> Value:
    if text not in values:
        raise ValueError
    return values[text]


def _name(text: str) -> str:
    if not text:
        raise ValueError
    return _text(text, _MAX_NAME_BYTES)


def _text(text: str, maximum: int) -> str:
    # the rule of the API: UTF-8 without control characters
    if len(text.encode()) > maximum or any(ord(each) < 32 or ord(each) == 127 for each in text):
        raise ValueError
    return text
