"""The page of the catalog: how many products there are of what, and how each category is searched."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from lookalike_client import Category, Model
from lookalike_gallery.charts import show_counts, show_numbers
from lookalike_gallery.connection import connection
from lookalike_gallery.escape_markdown import plain
from lookalike_gallery.facets import Offer, offers

_MOST_BARS = 15
# The shops' own name for what is below a category; it comes before the other attributes.
_FIRST = "sub_category"


def show() -> None:
    """The page."""
    categories = connection().categories()
    if not categories:
        st.info("The catalog is empty. Add a product on the page Products, or import a catalog.")
        return
    st.header("Catalog", anchor=False)
    offered = sorted(offers(categories), key=lambda offer: (offer.name != _FIRST, offer.name))
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
        show_counts([(each.name, "products", each.count) for each in categories], "Products per category")
    with right:
        st.subheader("How each is searched", anchor=False)
        _show_index(categories, connection().client.model())
    for place, offer in enumerate(offered):
        with (left, right)[place % 2]:
            _show_attribute(offer, categories)


def _show_attribute(offer: Offer, categories: Sequence[Category]) -> None:
    st.subheader(f"By {plain(offer.name.replace('_', ' '))}", anchor=False)
    counted = [
        (each.value, category.name, each.count)
        for category in categories
        for attribute in category.attributes
        if attribute.name == offer.name
        for each in attribute.top_values
    ]
    words = f"Products by {offer.name}, per category"
    if offer.bounds is not None and len(offer.values) > _MOST_BARS:
        show_numbers([(float(value), category, count) for value, category, count in counted], offer.name, words)
        others = 0
    else:
        shown = [value for value, _ in offer.values[:_MOST_BARS]]
        # stable: the categories stay in their order within a value
        rows = sorted((each for each in counted if each[0] in shown), key=lambda each: shown.index(each[0]))
        show_counts(rows, words)
        others = len(offer.values) - len(shown)
    if others or offer.more:
        st.caption(f"Without {others or 'some'} less frequent values{', and some' if others and offer.more else ''}.")


def _show_index(categories: Sequence[Category], model: Model) -> None:
    st.table(
        {
            "category": [plain(each.name) for each in categories],
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
        "flat compares every row, so its recall is 1 by construction; hnsw chooses the rows to compare, and the server"
        f" measures what it finds. Vectors are counted as one of {model.dim:,} numbers a product."
    )


def _recall(category: Category) -> str:
    if category.index_kind == "flat":
        return "1 (exact)"
    return "not measured yet" if category.recall is None else f"{category.recall:.3f}"
