"""The page that searches: a query on the left, its neighbors beside it, and the address that shows both again."""

from __future__ import annotations

import math
from dataclasses import replace

import streamlit as st

from lookalike_client import Category, Product
from lookalike_gallery.cards import show_image, show_neighbors, show_products
from lookalike_gallery.connection import connection
from lookalike_gallery.errors import guarded
from lookalike_gallery.escape_markdown import plain
from lookalike_gallery.paste import accept_pasted_images
from lookalike_gallery.refine import show_refinements
from lookalike_gallery.thumbnails import thumbnail
from lookalike_gallery.url_state import bound, current_view, field, go, link
from lookalike_gallery.view_state import MAX_PAGE, Start, View

PAGE_SIZE = 24

_STARTS: dict[Start, str] = {"browse": "Browse", "id": "By id", "image": "Image"}
_METRIC = {
    "cosine": "Similarity is the cosine, 1 for what looks the same to the model; distance is 1 less the similarity.",
    "euclidean": "Distance is euclidean, 0 for what looks the same to the model; similarity is 1 / (1 + distance).",
}
# Where the image is kept while other pages are looked at, and how often the uploader was emptied.
_IMAGE, _ROUND = "image", "uploader-round"


def show() -> None:
    """The page."""
    view, ignored = current_view()
    categories = connection().categories()
    if ignored:
        st.warning("The address holds what no view has; these parts of it were left out:")
        st.text("  ".join(sorted(each[:80] for each in ignored)))
    if not categories:
        st.info("The catalog is empty. Add a product on the page Products, or import a catalog.")
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
            st.text_input("Product id", max_chars=256, width=280, **bound("id", view.product, _name))
    if view.start == "browse":
        _refine(view, categories, "")
        _browse(view, categories)
    elif view.start == "image":
        image = _take_image()
        _refine(view, categories, None)
        if image is not None:
            _show_image(image)
            _answer(view, None, image)
    elif view.product:
        with guarded():
            product = connection().client.get(view.product).product
            _refine(view, categories, product.category)
            _show_product(product)
            _answer(view, product, None)


def choose(product_id: str) -> None:
    """Make a product the next query."""
    view, _ = current_view()
    go(replace(view, start="id", product=product_id))


def _name(view: View, text: str) -> View:
    return replace(view, product=text.strip())


def _refine(view: View, categories: list[Category], own: str | None) -> None:
    # before the answer, so that a query that is rejected can be changed
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


def _browse(view: View, categories: list[Category]) -> None:
    count = sum(category.count for category in categories if view.browse in {"", category.name})
    pages = max(1, math.ceil(count / PAGE_SIZE))
    shown = min(pages, MAX_PAGE)
    page = min(view.page, shown)
    products = connection().products(view.browse, (page - 1) * PAGE_SIZE, PAGE_SIZE)
    if not products:
        st.info("There is no product here.")
    show_products(products, choose)
    if shown > 1:
        st.pagination(shown, **bound("page", page, field("page")))
    if shown < pages:
        st.caption(f"The first {shown * PAGE_SIZE:,} of {count:,} products; ask for the others by their id.")


def _take_image() -> bytes | None:
    key = f"uploader-{st.session_state.setdefault(_ROUND, 0)}"

    def taken() -> None:
        file = st.session_state[key]
        st.session_state[_IMAGE] = None if file is None else file.getvalue()

    st.file_uploader("Image: drop or choose a file, or paste an image anywhere on this page", key=key, on_change=taken)
    accept_pasted_images()
    image: bytes | None = st.session_state.get(_IMAGE)
    return image


def _show_product(product: Product) -> None:
    (image,) = connection().images.thumbnails([(product.id, 0)])
    facts = [f"{product.id} in {product.category}"]
    facts += [f"{name}: {value}" for name, value in sorted(product.attributes.items())]
    _show_question(image, product.title or product.id, facts)


def _show_image(image: bytes) -> None:
    _show_question(thumbnail(image), "Your image", ["A link cannot hold it: whoever opens the link starts without it."])


def _show_question(image: bytes | None, title: str, facts: list[str]) -> None:
    with st.container(horizontal=True, gap="medium", wrap=False, key="question"):
        with st.container(width=150):
            show_image(image, title, "question")
        with st.container(gap="xsmall"):
            st.container(key="question-title").text(title)
            st.text("\n".join(facts))


def _answer(view: View, product: Product | None, image: bytes | None) -> None:
    with guarded():
        answer = connection().search(
            product_id=None if product is None else product.id,
            image=image,
            category="" if view.everywhere else view.category,
            all_categories=view.everywhere or (product is None and not view.category),
            k=view.k,
            filters=view.filters,
            group_by=view.group_by,
            collapse_duplicates=view.collapse,
        )
        found, stats = len(answer.neighbors), answer.stats
        how = "every row compared" if stats.exact else "by approximate index"
        st.caption(
            f"{found} of {view.k} neighbors · {stats.total_us / 1000:.1f} ms in the server · {how}"
            + ("" if found == view.k else " · there are no more that may be shown")
        )
        show_neighbors(answer.neighbors, choose)
        model = connection().client.model()
        st.caption(f"{_METRIC.get(model.metric, '')} Model: {plain(model.backbone)}, weights {plain(model.weights)}.")
        if image is None:
            with st.popover("Link to this view", icon=":material/link:"):
                st.code(link(view), language=None, wrap_lines=True)
