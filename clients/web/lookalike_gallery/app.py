"""The gallery's pages and the navigation between them."""

from __future__ import annotations

import streamlit as st

from lookalike_gallery import catalog_page, edit_page, search_page, server_page
from lookalike_gallery.connection import connection
from lookalike_gallery.errors import show_errors
from lookalike_gallery.login import require_login
from lookalike_gallery.styles import apply_style, icon


def main() -> None:
    """Run the page once; Streamlit calls this again for every interaction."""
    st.set_page_config(page_title="Lookalike", page_icon=icon(), layout="wide")
    with show_errors():
        require_login()
    pages = [
        st.Page(search_page.show, title="Search", icon=":material/search:", url_path="search", default=True),
        st.Page(catalog_page.show, title="Catalog", icon=":material/grid_view:", url_path="catalog"),
        st.Page(server_page.show, title="Server", icon=":material/monitoring:", url_path="server"),
        st.Page(edit_page.show, title="Products", icon=":material/edit:", url_path="products"),
    ]
    page = st.navigation(pages, position="top")
    apply_style()
    # On narrow screens Streamlit folds its navigation into a sidebar that is closed; the style sheet shows this one.
    with st.container(horizontal=True, gap="small", key="narrow-navigation"):
        for each in pages:
            st.page_link(each)
    with show_errors():
        st.container(key="brand").text(f"Lookalike \N{MIDDLE DOT} {connection().target}")
        if connection().client.model().is_random:
            st.error("The model's weights are random: it is untrained, and its results are meaningless.")
        page.run()
