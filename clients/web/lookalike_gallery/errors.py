"""Shows failed calls on the page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from lookalike_client import LookalikeError, TlsError
from lookalike_client.connection_failures import connection_failure
from lookalike_client.connection_options import OptionError
from lookalike_gallery.connection import connection
from lookalike_gallery.escape_markdown import escape_markdown
from lookalike_gallery.form_errors import reasons

RETRY_S = 2
"""Seconds between two attempts to reach a server that does not respond."""


@contextmanager
def show_errors() -> Iterator[None]:
    """Show a rejected call where it happened; an unreachable server replaces the rest of the page."""
    try:
        yield
    except LookalikeError as error:
        if _is_unreachable(error):
            _show_unreachable(error)
            st.stop()
        show_error(error)
    except (OptionError, TlsError) as error:
        # nothing works until the gallery is started again
        st.error("The gallery is not configured correctly:")
        st.text(str(error))
        st.stop()


def show_error(error: LookalikeError) -> None:
    """Show every reason of an error in one box, with the fields of the page."""
    lines = reasons(error)
    if error.retry_after is not None:
        lines.append(f"Try again in {error.retry_after:.1f} s.")
    show_problems("The server rejected this:" if error.request_id or error.violations else "This failed:", lines)


def show_problems(title: str, lines: list[str]) -> None:
    """Show lines under a title in one red box."""
    st.error("\n".join([title, "", *(f"- {escape_markdown(line)}" for line in lines)]))


def _is_unreachable(error: LookalikeError) -> bool:
    timed_out = error.request_id is None and error.code.name == "DEADLINE_EXCEEDED"
    return timed_out or error.code.name == "UNAVAILABLE"


def _show_unreachable(error: LookalikeError) -> None:
    target = connection().target
    with st.container(key="unreachable", border=True):
        if failure := connection_failure(error.message):
            st.warning("There is no connection to the server.", icon=":material/cloud_off:")
            st.text(f"{target}: {failure.value}.")
        elif error.request_id is None:
            st.warning("The server does not respond.", icon=":material/cloud_off:")
            st.text(f"Nothing responds at {target}. Start the server in another terminal:")
            st.code("make run", language=None)
        else:
            st.warning("The server is starting or stopping.", icon=":material/hourglass:")
            st.text(f"{target}: {error.message}")
        st.text(f"This page retries every {RETRY_S} seconds and continues where it was.")
        st.button("Retry now", icon=":material/refresh:")
    _resume_when_reachable()


@st.fragment(run_every=RETRY_S)
def _resume_when_reachable() -> None:
    try:
        connection().client.model(timeout=1)
    except LookalikeError as error:
        if _is_unreachable(error):
            return
    st.rerun()
