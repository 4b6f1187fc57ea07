"""Keeps the Search page and its URL in sync; the URL is the source of truth for every widget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from lookalike_gallery.view_state import View, from_params, to_params

_LAST = "last-search"


def current_view() -> tuple[View, list[str]]:
    """Return the view of the URL and its invalid parameters; after another page, restore the last view."""
    if not st.query_params and _LAST in st.session_state:
        st.query_params.from_dict(st.session_state[_LAST])
    params = {name: st.query_params.get_all(name) for name in st.query_params}
    st.session_state[_LAST] = params
    return from_params(params)


def go(view: View) -> None:
    """Switch to another view, in this run or, from a callback, in the next one."""
    st.query_params.from_dict(to_params(view))
    st.session_state[_LAST] = to_params(view)


def bound(key: str, value: Any, update: Callable[[View, Any], View]) -> dict[str, Any]:
    """Return the arguments of a widget that shows `value` and whose input becomes a view through `update`."""
    st.session_state[key] = value

    def apply() -> None:
        view, _ = current_view()
        go(update(view, st.session_state[key]))

    return {"key": key, "on_change": apply}


def link(view: View) -> str:
    """Return the absolute URL of a view."""
    query = urlencode(to_params(view), doseq=True)
    return f"{(st.context.url or '').partition('?')[0]}?{query}"


def field(name: str) -> Callable[[View, Any], View]:
    """Return an `update` for `bound` that sets one field."""
    return lambda view, value: replace(view, **{name: value})
