"""The side of the search page: where to look, how many to show, and which products may be among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from lookalike_client import Category
from lookalike_gallery.escape_markdown import plain
from lookalike_gallery.facets import Offer, offers
from lookalike_gallery.url_state import bound, field
from lookalike_gallery.view_state import MAX_K, View

# A choice of where to look: a kind, and the category of the kind "one".
Where = tuple[str, str]
_OWN: Where = ("own", "")
_EVERYWHERE: Where = ("everywhere", "")


def show_refinements(view: View, categories: Sequence[Category], own: str | None) -> None:
    """The widgets, in whatever stands around.

    Args:
        view: What they show.
        categories: With their attributes.
        own: The category of the product that asks; empty where there is none yet, None for an image.
    """
    st.selectbox(
        "Search in",
        _places(view, categories, own),
        format_func=lambda where: _place_name(where, own),
        **bound("where", _where(view, own), _look_in),
    )
    st.number_input("Neighbors", 1, MAX_K, **bound("k", view.k, field("k")))
    st.toggle(
        "Collapse duplicates",
        help="Products with the same image are one card.",
        **bound("collapse", view.collapse, field("collapse")),
    )
    searched = _where(view, own)[1] or (own if _where(view, own) == _OWN else "")
    offered = offers(each for each in categories if not searched or each.name == searched)
    names = [offer.name for offer in offered]
    st.selectbox(
        "One of each",
        ["", *names, *({view.group_by} - {"", *names})],
        format_func=lambda name: name.replace("_", " ") or "no groups",
        help="Of each value of this attribute, the nearest product only.",
        **bound("group", view.group_by, field("group_by")),
    )
    st.subheader("Only products with", anchor=False)
    for place, offer in enumerate([*offered, *_asked_only(view, names)]):
        if offer.bounds is not None:
            _range(view, offer, place)
        else:
            _values(view, offer)


def _places(view: View, categories: Sequence[Category], own: str | None) -> list[Where]:
    names = [category.name for category in categories]
    if view.category and view.category not in names:
        names.append(view.category)
    return [*([] if own is None else [_OWN]), _EVERYWHERE, *(("one", name) for name in names)]


def _where(view: View, own: str | None) -> Where:
    if view.category and not view.everywhere:
        return ("one", view.category)
    return _EVERYWHERE if view.everywhere or own is None else _OWN


def _place_name(where: Where, own: str | None) -> str:
    if where == _OWN:
        return f"the product's own ({own})" if own else "the product's own"
    return "all categories" if where == _EVERYWHERE else where[1]


def _look_in(view: View, where: Where) -> View:
    return replace(view, category=where[1], everywhere=where == _EVERYWHERE)


def _asked_only(view: View, names: Sequence[str]) -> list[Offer]:
    # what the address asks for is shown even where no product has it: nothing filters unseen
    values = [Offer(name, (), more=False, bounds=None) for name, _ in view.chosen if name not in names]
    return values + [Offer(name, (), more=False, bounds=(0, 0)) for name, _, _ in view.ranges if name not in names]


def _values(view: View, offer: Offer) -> None:
    counts = dict(offer.values)
    asked = next((values for name, values in view.chosen if name == offer.name), ())

    def choose(view: View, values: Sequence[str]) -> View:
        others = tuple(each for each in view.chosen if each[0] != offer.name)
        return replace(view, chosen=(*others, (offer.name, tuple(values))) if values else others)

    st.multiselect(
        plain(offer.name.replace("_", " ")),
        [*counts, *(value for value in asked if value not in counts)],
        format_func=lambda value: f"{value} ({counts.get(value, 0)})",
        placeholder="any",
        **bound(f"is {offer.name}", list(asked), choose),
    )


def _range(view: View, offer: Offer, place: int) -> None:
    asked = next((each for each in view.ranges if each[0] == offer.name), (offer.name, None, None))

    def choose(view: View, bounds: tuple[float | None, float | None]) -> View:
        others = tuple(each for each in view.ranges if each[0] != offer.name)
        return replace(view, ranges=others if bounds == (None, None) else (*others, (offer.name, *bounds)))

    least, most = (f"{bound_:g}" if offer.values else "" for bound_ in offer.bounds or (0, 0))
    label = plain(offer.name.replace("_", " "))
    left, right = st.container(key=f"between-{place}").columns(2, wrap=False, gap="small")
    left.number_input(
        f"{label} from",
        placeholder=least,
        **bound(f"min {offer.name}", asked[1], lambda view, value: choose(view, (value, _now(view, offer.name)[1]))),
    )
    right.number_input(
        f"{label} to",
        placeholder=most,
        **bound(f"max {offer.name}", asked[2], lambda view, value: choose(view, (_now(view, offer.name)[0], value))),
    )


def _now(view: View, name: str) -> tuple[float | None, float | None]:
    return next(((least, most) for each, least, most in view.ranges if each == name), (None, None))
