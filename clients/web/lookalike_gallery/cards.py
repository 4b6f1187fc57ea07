"""Products as cards: an image, what the shop calls it, how alike it is, and a button that asks from it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import streamlit as st
from PIL import Image, ImageDraw

from lookalike_client import Neighbor, Product
from lookalike_gallery.connection import connection
from lookalike_gallery.escape_markdown import plain


def show_products(products: Sequence[Product], choose: Callable[[str], None]) -> None:
    """A page of products; `choose` is called with the id of the one that is clicked."""
    images = connection().images.thumbnails([(product.id, 0) for product in products])
    with _grid():
        for place, (product, image) in enumerate(zip(products, images, strict=True)):
            with _card(place):
                show_image(image, product.title or product.id, f"browse-{place}")
                st.text(product.title or product.id)
                _button(product, place, choose)


def show_neighbors(neighbors: Sequence[Neighbor], choose: Callable[[str], None]) -> None:
    """The answer, nearest first, always with its scores; `choose` as in `show_products`."""
    wanted = [(neighbor.product.id, neighbor.image_index) for neighbor in neighbors]
    images = connection().images.thumbnails(wanted)
    with _grid():
        for place, (neighbor, image) in enumerate(zip(neighbors, images, strict=True)):
            product = neighbor.product
            with _card(place):
                show_image(image, product.title or product.id, f"neighbor-{place}")
                st.text(product.title or product.id)
                st.caption(f"similarity **{neighbor.similarity:.4f}**  \ndistance {neighbor.distance:.4f}")
                _button(product, place, choose)
                if neighbor.duplicates:
                    with (
                        st.container(key=f"twins-{place}"),
                        st.popover(f"+{len(neighbor.duplicates)} with this image", type="tertiary"),
                    ):
                        for twin in neighbor.duplicates:
                            st.text(f"{twin.id}  {twin.title}")


def show_image(image: bytes | None, alt: str, key: str) -> None:
    """An image as wide as what it stands in, or a plain sheet in its place."""
    with st.container(key=f"image-{key}"):
        if image is None:
            st.image(_sheet(), alt=f"{alt} (no image)", width="stretch")
        else:
            st.image(image, alt=alt, width="stretch")


def _grid() -> st.delta_generator.DeltaGenerator:
    return st.container(key="cards", gap="small")


def _card(place: int) -> st.delta_generator.DeltaGenerator:
    return st.container(key=f"card-{place}", border=True, gap="xsmall")


def _button(product: Product, place: int, choose: Callable[[str], None]) -> None:
    st.button(
        f":primary[Look from {plain(product.id)}]",
        key=f"choose-{place}",
        on_click=choose,
        args=(product.id,),
        type="tertiary",
    )


@st.cache_data(show_spinner=False)
def _sheet() -> bytes:
    sheet = Image.new("RGB", (180, 240), "#d9d9d6")
    ImageDraw.Draw(sheet).rectangle((50, 80, 130, 160), outline="#9a9a96", width=4)
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()
