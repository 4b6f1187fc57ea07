"""What the search page shows, and the address that reproduces it; pure.

An address is written by anyone, so each part of it is checked: what is not valid is left out and named.
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
    """One view of the search page.

    Attributes:
        start: Where the query comes from: a page of thumbnails, an id, or an image (which no address holds).
        product: The product's id, where the query is one; else empty.
        browse: The category whose thumbnails are shown; empty for all.
        page: The page of thumbnails, counted from 1.
        category: The category to search; empty for the product's own, and for an image for all of them.
        everywhere: Whether every category is searched.
        k: Neighbors to ask for, 1 to MAX_K.
        chosen: By attribute, the values a neighbor may have.
        ranges: By attribute, the smallest and the largest number a neighbor may have; None for no bound.
        group_by: The attribute of which each value is shown once; empty for none.
        collapse: Whether products with the same image are one.
    """

    start: Start = "browse"
    product: str = ""
    browse: str = ""
    page: int = 1
    category: str = ""
    everywhere: bool = False
    k: int = 12
    chosen: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ranges: tuple[tuple[str, float | None, float | None], ...] = ()
    group_by: str = ""
    collapse: bool = True

    @property
    def filters(self) -> list[Filter]:
        """The conditions in the client's terms."""
        values: list[Filter] = [AnyOf(name, options) for name, options in self.chosen]
        return values + [Between(name, least, most) for name, least, most in self.ranges]


def to_params(view: View) -> dict[str, list[str]]:
    """The address' parameters; what is as usual is left out."""
    usual = View()
    params: dict[str, list[str]] = {}
    if view.start != usual.start:
        params["from"] = [view.start]
    for name, text in (
        ("id", view.product),
        ("browse", view.browse),
        ("category", view.category),
        ("group", view.group_by),
    ):
        if text:
            params[name] = [text]
    if view.page != usual.page:
        params["page"] = [str(view.page)]
    if view.everywhere:
        params["everywhere"] = ["1"]
    if view.k != usual.k:
        params["k"] = [str(view.k)]
    if not view.collapse:
        params["collapse"] = ["0"]
    for name, values in view.chosen:
        params[f"is.{name}"] = list(values)
    for name, least, most in view.ranges:
        if least is not None:
            params[f"min.{name}"] = [repr(least)]
        if most is not None:
            params[f"max.{name}"] = [repr(most)]
    return params


def from_params(params: Mapping[str, Iterable[str]]) -> tuple[View, list[str]]:
    """The view of an address, and the names of the parameters that were left out because they are not valid."""
    given = {name: list(values) for name, values in params.items()}
    ignored: list[str] = []

    def one(name: str, read: Callable[[str], Value], usual: Value) -> Value:
        values = given.pop(name, None)
        if values is None:
            return usual
        try:
            (text,) = values
            return read(text)
        except ValueError:
            ignored.append(name)
            return usual

    view = View(
        start=one("from", _start, "id" if "id" in given else "browse"),
        product=one("id", _name, ""),
        browse=one("browse", _name, ""),
        page=one("page", lambda text: _whole(text, MAX_PAGE), 1),
        category=one("category", _name, ""),
        everywhere=one("everywhere", _yes_or_no, False),
        k=one("k", lambda text: _whole(text, MAX_K), View().k),
        group_by=one("group", _name, ""),
        collapse=one("collapse", _yes_or_no, True),
        chosen=_chosen(given, ignored),
        ranges=_ranges(given, ignored),
    )
    return view, ignored + list(given)


def _chosen(given: dict[str, list[str]], ignored: list[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: list[tuple[str, tuple[str, ...]]] = []
    for parameter in [each for each in given if each.startswith("is.")]:
        values = given.pop(parameter)
        try:
            name = _name(parameter.removeprefix("is."))
            if not 1 <= len(values) <= _MAX_VALUES or len(found) == _MAX_FILTERS // 2:
                raise ValueError
            found.append((name, tuple(_text(value, _MAX_VALUE_BYTES) for value in values)))
        except ValueError:
            ignored.append(parameter)
    return tuple(found)


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


def _whole(text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most) or len(text) > len(str(most)):
        raise ValueError
    return int(text)


def _yes_or_no(text: str) -> bool:
    return _one_of({"0": False, "1": True}, text)


def _one_of(values: Mapping[str, Value], text: str) -> Value:
    if text not in values:
        raise ValueError
    return values[text]


def _name(text: str) -> str:
    if not text:
        raise ValueError
    return _text(text, _MAX_NAME_BYTES)


def _text(text: str, most: int) -> str:
    # the rule of the API: UTF-8 without control characters
    if len(text.encode()) > most or any(ord(each) < 32 or ord(each) == 127 for each in text):
        raise ValueError
    return text
