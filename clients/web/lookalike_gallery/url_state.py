"""Keeps the search page and its address the same: the address is the truth, and every widget shows what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from lookalike_gallery.view_state import View, from_params, to_params

_LAST = "last-search"


def current_view() -> tuple[View, list[str]]:
    """The view of the address, and what of it is not valid; the one before, for who comes back from another page."""
    if not st.query_params and _LAST in st.session_state:
        st.query_params.from_dict(st.session_state[_LAST])
    params = {name: st.query_params.get_all(name) for name in st.query_params}
    st.session_state[_LAST] = params
    return from_params(params)


def go(view: View) -> None:
    """Show another view in the rest of this run, or in the next one where a callback asks for it."""
    st.query_params.from_dict(to_params(view))
    st.session_state[_LAST] = to_params(view)


def bound(key: str, value: Any, change: Callable[[View, Any], View]) -> dict[str, Any]:
    """Arguments for a widget that shows `value` of the view, and by `change` makes the next view of what is chosen."""
    st.session_state[key] = value

    def chosen() -> None:
        view, _ = current_view()
        go(change(view, st.session_state[key]))

    return {"key": key, "on_change": chosen}


def link(view: View) -> str:
    """The whole address of a view."""
    query = urlencode(to_params(view), doseq=True)
    return f"{(st.context.url or '').partition('?')[0]}?{query}"


def field(name: str) -> Callable[[View, Any], View]:
    """For `bound`: a change of one field."""
    return lambda view, value: replace(view, **{name: value})
