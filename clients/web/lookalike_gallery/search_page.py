"""The Search page: choose a query, refine it, and show its nearest neighbors."""

from __future__ import annotations

import math
from dataclasses import replace

import streamlit as st

from lookalike_client import Category, Product
from lookalike_gallery.cards import show_image, show_neighbors, show_products
from lookalike_gallery.connection import MAX_SCANNED, connection
from lookalike_gallery.errors import show_errors
from lookalike_gallery.escape_markdown import escape_markdown
from lookalike_gallery.paste import MAX_IMAGE_MIB, accept_pasted_images
from lookalike_gallery.refine import show_refinements
from lookalike_gallery.thumbnails import thumbnail
from lookalike_gallery.url_state import bound, current_view, field, go, link
from lookalike_gallery.view_state import MAX_PAGE, Start, View

PAGE_SIZE = 24

_STARTS: dict[Start, str] = {"browse": "Browse", "id": "By id", "image": "Image"}
_METRIC = {
    "cosine": "Similarity is the cosine, 1 for identical embeddings; distance is 1 - similarity.",
    "euclidean": "Distance is Euclidean, 0 for identical embeddings; similarity is 1 / (1 + distance).",
}
# Session state: keeps the uploaded image while other pages are shown.
_IMAGE = "image"


def show() -> None:
    """Show the page."""
    view, ignored = current_view()
    categories = connection().categories()
    if ignored:
        st.warning("These parameters of the URL are invalid and were ignored:")
        st.text("  ".join(sorted(each[:80] for each in ignored)))
    if not categories:
        st.info("The catalog is empty. Add a product on the Products page, or import a catalog.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.segmented_control(
            "Start from",
            list(_STARTS),
            format_func=_STARTS.__getitem__,
            required=True,
            **bound("start", view.start, field("start")),
        )
        if view.start == "browse":
            _choose_category(view, categories)
        elif view.start == "id":
            st.text_input("Product id", max_chars=256, width=280, **bound("id", view.product, _set_product))
    if view.start == "browse":
        _refine(view, categories, "")
        _browse(view, categories)
    elif view.start == "image":
        image = _upload_image()
        _refine(view, categories, None)
        if image is not None:
            _show_image(image)
            _show_result(view, None, image)
    elif view.product:
        with show_errors():
            product = connection().client.get(view.product).product
            _refine(view, categories, product.category)
            _show_product(product)
            _show_result(view, product, None)


def select(product_id: str) -> None:
    """Make a product the next query."""
    view, _ = current_view()
    go(replace(view, start="id", product=product_id))


def _set_product(view: View, text: str) -> View:
    return replace(view, product=text.strip())


def _refine(view: View, categories: list[Category], own: str | None) -> None:
    # before the search, so that a rejected query can be changed
    with st.sidebar:
        show_refinements(view, categories, own)


def _choose_category(view: View, categories: list[Category]) -> None:
    counts = {"": sum(category.count for category in categories)} | {each.name: each.count for each in categories}
    st.selectbox(
        "Category to browse",
        [*counts, *({view.browse} - set(counts))],
        format_func=lambda name: f"{name or 'All categories'} ({counts.get(name, 0)})",
        width=280,
        **bound("browse", view.browse, lambda view, name: replace(view, browse=name, page=1)),
    )
    st.text_input(
        "Title or id contains",
        max_chars=64,
        width=280,
        icon=":material/search:",
        **bound("title", view.title, lambda view, text: replace(view, title=text.strip(), page=1)),
    )


def _browse(view: View, categories: list[Category]) -> None:
    if view.title:
        _show_found(view)
        return
    count = sum(category.count for category in categories if view.browse in {"", category.name})
    pages = max(1, math.ceil(count / PAGE_SIZE))
    shown = min(pages, MAX_PAGE)
    page = min(view.page, shown)
    products = connection().products(view.browse, (page - 1) * PAGE_SIZE, PAGE_SIZE)
    if not products:
        st.info("No products on this page.")
    show_products(products, select)
    if shown > 1:
        st.pagination(shown, **bound("page", page, field("page")))
    if shown < pages:
        st.caption(f"The first {shown * PAGE_SIZE:,} of {count:,} products; search for the others by id.")


def _show_found(view: View) -> None:
    products, complete = connection().find(view.browse, view.title, PAGE_SIZE)
    if not products:
        st.info(f"No title or id contains {escape_markdown(view.title)}.")
    show_products(products, select)
    if not complete:
        st.caption(f"The first {PAGE_SIZE} of the first {MAX_SCANNED:,} products are shown; write more of the title.")


def _upload_image() -> bytes | None:
    key = "uploader"

    def keep() -> None:
        file = st.session_state[key]
        st.session_state[_IMAGE] = None if file is None else file.getvalue()

    st.file_uploader(
        "Image: drop or choose a file, or paste an image anywhere on this page",
        key=key,
        on_change=keep,
        max_upload_size=MAX_IMAGE_MIB,
    )
    accept_pasted_images()
    image: bytes | None = st.session_state.get(_IMAGE)
    return image


def _show_product(product: Product) -> None:
    (image,) = connection().thumbnails.get([(product.id, 0)])
    details = [f"{product.id} in {product.category}"]
    details += [f"{name}: {value}" for name, value in sorted(product.attributes.items())]
    _show_query(image, product.title or product.id, details)


def _show_image(image: bytes) -> None:
    _show_query(_thumbnail(image), "Your image", ["The image is not part of the link to this view."])


@st.cache_data(max_entries=64, show_spinner=False)
def _thumbnail(image: bytes) -> bytes | None:
    return thumbnail(image)  # the page runs again at every click


def _show_query(image: bytes | None, title: str, details: list[str]) -> None:
    with st.container(horizontal=True, gap="medium", wrap=False, key="query"):
        with st.container(width=150):
            show_image(image, title, "query")
        with st.container(gap="xsmall"):
            st.container(key="query-title").text(title)
            st.text("\n".join(details))


def _show_result(view: View, product: Product | None, image: bytes | None) -> None:
    with show_errors():
        result = connection().search(
            product_id=None if product is None else product.id,
            image=image,
            category="" if view.all_categories else view.category,
            all_categories=view.all_categories or (product is None and not view.category),
            k=view.k,
            filters=view.filters,
            group_by=view.group_by,
            collapse_duplicates=view.collapse,
        )
        count, stats = len(result.neighbors), result.stats
        method = "exact search" if stats.exact else "approximate index"
        st.caption(
            f"{count} of {view.k} neighbors · {stats.total_us / 1000:.1f} ms in the server · {method}"
            + ("" if count == view.k else " · no more products match")
        )
        show_neighbors(result.neighbors, select)
        model = connection().client.model()
        name, weights = escape_markdown(model.backbone), escape_markdown(model.weights)
        st.caption(f"{_METRIC.get(model.metric, '')} Model: {name}, weights {weights}.")
        if image is None:
            with st.popover("Link to this view", icon=":material/link:"):
                st.code(link(view), language=None, wrap_lines=True)
