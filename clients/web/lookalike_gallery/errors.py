"""The one place where a call that failed becomes words on the page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from lookalike_client import LookalikeError
from lookalike_gallery.connection import connection

LOOK_AGAIN_S = 2
"""Between two looks whether a server that was away is back."""


@contextmanager
def guarded() -> Iterator[None]:
    """Show why a call inside failed: a rejection where it happened, and a server that is away in place of the rest."""
    try:
        yield
    except LookalikeError as error:
        if _is_away(error):
            _show_away(error)
            st.stop()
        show_rejection(error)


def show_rejection(error: LookalikeError) -> None:
    """What the server said, in its own words."""
    st.error("The server rejected this:" if error.request_id or error.violations else "This did not work:")
    for line in map(str, error.violations) if error.violations else [str(error)]:
        st.text(line)
    if error.retry_after is not None:
        st.text(f"Ask again in {error.retry_after:.1f} s.")


def _is_away(error: LookalikeError) -> bool:
    unanswered = error.request_id is None and error.code.name == "DEADLINE_EXCEEDED"
    return unanswered or error.code.name == "UNAVAILABLE"


def _show_away(error: LookalikeError) -> None:
    target = connection().target
    with st.container(key="away", border=True):
        if error.request_id is None:
            st.warning("No server answers.", icon=":material/cloud_off:")
            st.text(f"Nobody answers at {target}. Start the server in another terminal:")
            st.code("make run", language=None)
        else:
            st.warning("The server is starting or stopping.", icon=":material/hourglass:")
            st.text(f"{target} says: {error.message}")
        st.text("This page looks again every two seconds and goes on where it was.")
        st.button("Look again now", icon=":material/refresh:")
    _go_on_when_back()


@st.fragment(run_every=LOOK_AGAIN_S)
def _go_on_when_back() -> None:
    try:
        connection().client.model(timeout=1)
    except LookalikeError as error:
        if _is_away(error):
            return
    st.rerun()
