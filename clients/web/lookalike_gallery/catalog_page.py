"""The Catalog page: product counts per category and attribute, and the index of each category."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from lookalike_client import Category, Model
from lookalike_gallery.charts import show_counts, show_histogram
from lookalike_gallery.connection import connection
from lookalike_gallery.escape_markdown import escape_markdown
from lookalike_gallery.facets import Facet, facet_label, merge_facets

_MAX_BARS = 15
# Shown before the other attributes.
_FIRST_ATTRIBUTE = "sub_category"


def show() -> None:
    """Show the page."""
    categories = connection().categories()
    if not categories:
        st.info("The catalog is empty. Add a product on the Products page, or import a catalog.")
        return
    st.header("Catalog", anchor=False)
    facets = sorted(merge_facets(categories), key=lambda facet: (facet.name != _FIRST_ATTRIBUTE, facet.name))
    with st.container(horizontal=True):
        for label, value in (
            ("Products", f"{sum(category.count for category in categories):,}"),
            ("Categories", len(categories)),
            ("Attributes", len({each.name for category in categories for each in category.attributes})),
        ):
            st.metric(label, value, border=True, width=160)
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Products per category", anchor=False)
        rows = [(each.name, each.name, each.count) for each in categories]
        show_counts(rows, [each.name for each in categories], "Products per category")
    with right:
        st.subheader("Index per category", anchor=False)
        _show_index(categories, connection().client.model())
    for position, facet in enumerate(facets):
        with (left, right)[position % 2]:
            _show_facet(facet, categories)


def _show_facet(facet: Facet, categories: Sequence[Category]) -> None:
    st.subheader(f"By {facet_label(facet.name)}", anchor=False)
    counted = [
        (each.value, category.name, each.count)
        for category in categories
        for attribute in category.attributes
        if attribute.name == facet.name
        for each in attribute.top_values
    ]
    alt_text, parts = f"Products by {facet.name}, per category", [category.name for category in categories]
    if facet.bounds is not None and len(facet.values) > _MAX_BARS:
        numbers = [(float(value), category, count) for value, category, count in counted]
        show_histogram(numbers, parts, facet.name, alt_text)
        hidden = 0
    else:
        shown = [value for value, _ in facet.values[:_MAX_BARS]]
        # the sort is stable, which keeps the order of the categories within a value
        rows = sorted((each for each in counted if each[0] in shown), key=lambda each: shown.index(each[0]))
        show_counts(rows, parts, alt_text)
        hidden = len(facet.values) - len(shown)
    if hidden or facet.truncated:
        st.caption(f"{'Less' if facet.truncated else f'{hidden} less'} frequent values are not shown.")


def _show_index(categories: Sequence[Category], model: Model) -> None:
    st.table(
        {
            "category": [escape_markdown(each.name) for each in categories],
            "products": [f"{each.count:,}" for each in categories],
            "index": [each.index_kind for each in categories],
            "recall": [_recall(each) for each in categories],
            "vectors, MB": [f"{each.count * model.dim * 4 / 1e6:.1f}" for each in categories],
        },
        hide_index=True,
        border="horizontal",
        alt="Index kind, recall and size per category",
    )
    st.caption(
        "A flat index compares every vector, so its recall is 1. An hnsw index is approximate, and the server measures"
        f" its recall. The size assumes one float32 vector of {model.dim:,} dimensions per product."
    )


def _recall(category: Category) -> str:
    if category.index_kind == "flat":
        return "1 (exact)"
    return "not measured yet" if category.recall is None else f"{category.recall:.3f}"
