"""The gallery's pages and how one comes from one to another."""

from __future__ import annotations

import streamlit as st

from lookalike_gallery import catalog, change, search, server
from lookalike_gallery.connection import connection
from lookalike_gallery.errors import guarded
from lookalike_gallery.styles import apply_style, icon


def main() -> None:
    """One run of the page: Streamlit calls it again for whatever its visitor does."""
    st.set_page_config(page_title="Lookalike", page_icon=icon(), layout="wide")
    page = st.navigation(
        [
            st.Page(search.show, title="Search", icon=":material/search:", url_path="search", default=True),
            st.Page(catalog.show, title="Catalog", icon=":material/grid_view:", url_path="catalog"),
            st.Page(server.show, title="Server", icon=":material/monitoring:", url_path="server"),
            st.Page(change.show, title="Products", icon=":material/edit:", url_path="products"),
        ],
        position="top",
    )
    apply_style()
    with guarded():
        if connection().client.model().is_random:
            st.error("The model's weights are random: nobody trained it, and its answers mean nothing.")
        page.run()
