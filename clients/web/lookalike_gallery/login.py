"""The login: asked for unless the gallery listens on loopback, because whoever sees the page can edit the catalog."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import streamlit as st

from lookalike_client import Client, LookalikeError
from lookalike_client.channel import is_loopback
from lookalike_client.connection_options import ConnectionOptions, OptionError, connection_options
from lookalike_gallery.connection import TIMEOUT_S, use_token

KEY_FILE = "LOOKALIKE_CLIENT_GALLERY_KEY_FILE"
"""The variable with the file of the gallery's own key: who knows it calls the server with the gallery's token."""

MIN_KEY = 16
"""The fewest characters of that key; nothing slows down who guesses."""

_PASSED = "logged-in"


def require_login() -> None:
    """Return where the visitor may see the page; else ask for a key, and end this run."""
    if st.session_state.get(_PASSED) or not needs_login(st.get_option("server.address")):
        return
    options, own = connection_options(), gallery_key()
    st.header("Lookalike", anchor=False)
    with st.form("login"):
        key = st.text_input("The gallery's key, or your own token for the server", type="password")
        submitted = st.form_submit_button("Log in", icon=":material/login:")
    if submitted and key:
        if own and hmac.compare_digest(key.encode(), own.encode()):
            st.session_state[_PASSED] = True
            st.rerun()
        if server_knows(options, key):
            st.session_state[_PASSED] = True
            use_token(key)
            st.rerun()
        st.error("Neither the gallery nor the server knows this key.")
    st.stop()


def needs_login(address: str | None) -> bool:
    """Return whether others than the users of this machine reach a page at this address; None is every address."""
    return not address or not is_loopback(f"[{address}]" if ":" in address else address)


def gallery_key(environment: Mapping[str, str] = os.environ) -> str | None:
    """Read the gallery's own key; None where it has none.

    Raises:
        OptionError: The file cannot be read, or the key is too short.
    """
    path = environment.get(KEY_FILE)
    if not path:
        return None
    try:
        key = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{KEY_FILE}: {path} cannot be read: {error}") from error
    if len(key) < MIN_KEY:
        raise OptionError(f"{KEY_FILE}: the key in {path} must have {MIN_KEY} characters or more")
    return key


def server_knows(options: ConnectionOptions, token: str) -> bool:
    """Return whether a token is one of the server's: it is accepted, and a call without any is rejected.

    Where the server asks for no token, or knows the gallery by its certificate, every token is accepted and proves
    nothing.

    Raises:
        LookalikeError: The server does not respond.
    """
    if not (token.isascii() and token.isprintable()):
        return False
    return not _accepted(replace(options, token=None)) and _accepted(replace(options, token=token))


def _accepted(options: ConnectionOptions) -> bool:
    with Client(options.server, timeout=TIMEOUT_S, token=options.token, tls=options.tls) as client:
        try:
            client.model()
        except LookalikeError as error:
            if error.code.name != "UNAUTHENTICATED":
                raise
            return False
    return True
