"""Products as cards: the image, the title, the scores, and a button that searches for similar products."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import streamlit as st
from PIL import Image, ImageDraw

from lookalike_client import Neighbor, Product
from lookalike_gallery.connection import connection
from lookalike_gallery.escape_markdown import escape_markdown


def show_products(products: Sequence[Product], select: Callable[[str], None]) -> None:
    """Show a page of products, and call `select` with the id of the one that is clicked."""
    images = connection().thumbnails.get([(product.id, 0) for product in products])
    with _grid():
        for position, (product, image) in enumerate(zip(products, images, strict=True)):
            with _card(position):
                show_image(image, product.title or product.id, f"browse-{position}")
                st.text(product.title or product.id)
                st.caption(escape_markdown(product.id))
                _button(product, position, select)


def show_neighbors(neighbors: Sequence[Neighbor], select: Callable[[str], None]) -> None:
    """Show search results with their scores, nearest first; `select` as in `show_products`."""
    images = connection().thumbnails.get([(each.product.id, each.image_index) for each in neighbors])
    with _grid():
        for position, (neighbor, image) in enumerate(zip(neighbors, images, strict=True)):
            product = neighbor.product
            with _card(position):
                show_image(image, product.title or product.id, f"neighbor-{position}")
                st.text(product.title or product.id)
                st.caption(escape_markdown(product.id))
                st.caption(f"similarity **{neighbor.similarity:.4f}**  \ndistance {neighbor.distance:.4f}")
                _button(product, position, select)
                if neighbor.duplicates:
                    with (
                        st.container(key=f"duplicates-{position}"),
                        st.popover(f"+{len(neighbor.duplicates)} with this image", type="tertiary"),
                    ):
                        for duplicate in neighbor.duplicates:
                            st.text(f"{duplicate.id}  {duplicate.title}")


def show_image(image: bytes | None, alt: str, key: str) -> None:
    """Show an image at the width of its container, or a placeholder where there is none."""
    with st.container(key=f"image-{key}"):
        if image is None:
            st.image(_placeholder(), alt=f"{alt} (no image)", width="stretch")
        else:
            st.image(image, alt=alt, width="stretch")


def _grid() -> st.delta_generator.DeltaGenerator:
    return st.container(key="cards", gap="small")


def _card(position: int) -> st.delta_generator.DeltaGenerator:
    return st.container(key=f"card-{position}", border=True, gap="xsmall")


def _button(product: Product, position: int, select: Callable[[str], None]) -> None:
    st.button(
        ":primary[Find similar]",
        key=f"select-{position}",
        on_click=select,
        args=(product.id,),
        type="tertiary",
    )


@st.cache_data(show_spinner=False)
def _placeholder() -> bytes:
    placeholder = Image.new("RGB", (180, 240), "#d9d9d6")
    ImageDraw.Draw(placeholder).rectangle((50, 80, 130, 160), outline="#9a9a96", width=4)
    out = io.BytesIO()
    placeholder.save(out, "PNG")
    return out.getvalue()
