"""The sidebar of the Search page: the scope, the number of neighbors, grouping and filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from lookalike_client import Category
from lookalike_gallery.facets import Facet, facet_label, merge_facets
from lookalike_gallery.url_state import bound, field
from lookalike_gallery.view_state import MAX_K, View

# The scope of a search: its kind, and the category where the kind is "one".
Scope = tuple[str, str]
_OWN: Scope = ("own", "")
_ALL: Scope = ("all", "")


def show_refinements(view: View, categories: Sequence[Category], own: str | None) -> None:
    """Show the widgets in the current container.

    Args:
        view: The state to show.
        categories: All categories, with their attributes.
        own: The category of the query product; empty where there is none yet, None for an image.
    """
    st.selectbox(
        "Category to search",
        _scopes(view, categories, own),
        format_func=lambda scope: _scope_name(scope, own),
        **bound("scope", _scope(view, own), _set_scope),
    )
    st.number_input("Neighbors", 1, MAX_K, **bound("k", view.k, field("k")))
    st.toggle(
        "Collapse duplicates",
        help="Show products with the same image as one card.",
        **bound("collapse", view.collapse, field("collapse")),
    )
    searched = _scope(view, own)[1] or (own if _scope(view, own) == _OWN else "")
    facets = merge_facets(each for each in categories if not searched or each.name == searched)
    names = [facet.name for facet in facets]
    st.selectbox(
        "Group by",
        ["", *names, *({view.group_by} - {"", *names})],
        format_func=lambda name: name.replace("_", " ") or "none",
        help="Show only the nearest product for each value of this attribute.",
        **bound("group", view.group_by, field("group_by")),
    )
    st.subheader(
        "Filters", anchor=False, help="By the attributes of the products. Catalogs may have one named category."
    )
    for position, facet in enumerate([*facets, *_unknown_facets(view, names)]):
        if facet.bounds is not None:
            _show_range(view, facet, position)
        else:
            _show_values(view, facet)


def _scopes(view: View, categories: Sequence[Category], own: str | None) -> list[Scope]:
    names = [category.name for category in categories]
    if view.category and view.category not in names:
        names.append(view.category)
    return [*([] if own is None else [_OWN]), _ALL, *(("one", name) for name in names)]


def _scope(view: View, own: str | None) -> Scope:
    if view.category and not view.all_categories:
        return ("one", view.category)
    return _ALL if view.all_categories or own is None else _OWN


def _scope_name(scope: Scope, own: str | None) -> str:
    if scope == _OWN:
        return f"the product's category ({own})" if own else "the product's category"
    return "all categories" if scope == _ALL else scope[1]


def _set_scope(view: View, scope: Scope) -> View:
    return replace(view, category=scope[1], all_categories=scope == _ALL)


def _unknown_facets(view: View, names: Sequence[str]) -> list[Facet]:
    # a filter of the URL is shown even if no product has the attribute, so that no filter is invisible
    values = [Facet(name, (), truncated=False, bounds=None) for name, _ in view.values if name not in names]
    return values + [Facet(name, (), truncated=False, bounds=(0, 0)) for name, _, _ in view.ranges if name not in names]


def _show_values(view: View, facet: Facet) -> None:
    counts = dict(facet.values)
    selected = next((values for name, values in view.values if name == facet.name), ())

    def update(view: View, values: Sequence[str]) -> View:
        others = tuple(each for each in view.values if each[0] != facet.name)
        return replace(view, values=(*others, (facet.name, tuple(values))) if values else others)

    st.multiselect(
        facet_label(facet.name),
        [*counts, *(value for value in selected if value not in counts)],
        format_func=lambda value: f"{value} ({counts.get(value, 0)})",
        placeholder="any",
        **bound(f"is {facet.name}", list(selected), update),
    )


def _show_range(view: View, facet: Facet, position: int) -> None:
    current = next((each for each in view.ranges if each[0] == facet.name), (facet.name, None, None))

    def update(view: View, bounds: tuple[float | None, float | None]) -> View:
        others = tuple(each for each in view.ranges if each[0] != facet.name)
        return replace(view, ranges=others if bounds == (None, None) else (*others, (facet.name, *bounds)))

    low, high = (f"{limit:g}" if facet.values else "" for limit in facet.bounds or (0, 0))
    label = facet_label(facet.name)
    left, right = st.container(key=f"range-{position}").columns(2, wrap=False, gap="small")
    left.number_input(
        f"{label} from",
        placeholder=low,
        **bound(
            f"min {facet.name}",
            current[1],
            lambda view, value: update(view, (value, _current_range(view, facet.name)[1])),
        ),
    )
    right.number_input(
        f"{label} to",
        placeholder=high,
        **bound(
            f"max {facet.name}",
            current[2],
            lambda view, value: update(view, (_current_range(view, facet.name)[0], value)),
        ),
    )


def _current_range(view: View, name: str) -> tuple[float | None, float | None]:
    return next(((low, high) for each, low, high in view.ranges if each == name), (None, None))
