"""The page that changes the catalog: a product is added or replaced, or removed once that was confirmed."""

from __future__ import annotations

import uuid

import streamlit as st

from lookalike_client import ItemStatus, LookalikeError, ProductInput, StoredProduct
from lookalike_gallery.cards import show_image
from lookalike_gallery.connection import connection
from lookalike_gallery.errors import guarded, show_rejection
from lookalike_gallery.paste import accept_pasted_images

MAX_IMAGES = 8
# How often the form was emptied, what became of the last change, and what waits for a yes.
_ROUND, _DONE, _WAITING = "form-round", "change-done", "change-waiting"


def show() -> None:
    """The page."""
    st.header("Products", anchor=False)
    done = st.session_state.pop(_DONE, None)
    if done is not None:
        st.success("Done, and on the server's disk.")
        st.text(done)
    add, delete = st.tabs(["Add or replace", "Delete"])
    with add:
        _add()
    with delete:
        _delete()


def read_attributes(text: str) -> tuple[dict[str, str], list[str]]:
    """The attributes of `name=value` lines, and the lines that are none; empty lines are left out."""
    attributes: dict[str, str] = {}
    wrong = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, equals, value = (each.strip() for each in line.partition("="))
        if not equals or not name or name in attributes:
            wrong.append(line)
        else:
            attributes[name] = value
    return attributes, wrong


def _add() -> None:
    number = st.session_state.setdefault(_ROUND, 0)
    names = [category.name for category in connection().categories()]
    with st.form(f"add-{number}"):
        files = st.file_uploader(
            f"Images: drop, choose or paste up to {MAX_IMAGES}", accept_multiple_files=True, key=f"files-{number}"
        )
        left, right = st.columns(2)
        product_id = left.text_input("Product id", max_chars=256, key=f"new-id-{number}")
        category = right.selectbox(
            "Category",
            names,
            index=None,
            accept_new_options=True,
            key=f"new-category-{number}",
            placeholder="choose one, or write a new one",
        )
        title = st.text_input("Title", key=f"new-title-{number}")
        facts = st.text_area(
            "Attributes, one a line", placeholder="color=red\nprice=19.50", key=f"new-attributes-{number}"
        )
        sent = st.form_submit_button("Store", type="primary")
    accept_pasted_images()
    if not sent:
        return
    attributes, wrong = read_attributes(facts)
    if wrong:
        st.error("An attribute is a line name=value, each name once. These lines are not:")
        st.text("\n".join(wrong))
        return
    product = ProductInput(
        id=product_id.strip(),
        category=(category or "").strip(),
        title=title.strip(),
        attributes=attributes,
        images=[file.getvalue() for file in files],
    )
    with guarded():
        known = _find(product.id)
        if known is None:
            _finish(connection().store(product, uuid.uuid4().hex), f"{product.id} is stored in {product.category}.")
        else:
            _confirm_replacing(product, known)


@st.dialog("Replace this product?")
def _confirm_replacing(product: ProductInput, known: StoredProduct) -> None:
    st.text(f"{known.product.id} exists: {known.product.title}")
    st.write("Its title, category, attributes and images are replaced as a whole.")
    name = st.session_state.setdefault(_WAITING, uuid.uuid4().hex)
    with st.container(horizontal=True):
        if st.button("Replace it", type="primary"):
            with guarded():
                _finish(connection().store(product, name), f"{product.id} is replaced.")
        if st.button("Leave it"):
            st.rerun()


def _delete() -> None:
    product_id = st.text_input("Id of the product to delete", max_chars=256, key="delete-id").strip()
    if not product_id:
        return
    with guarded():
        stored = connection().client.get(product_id)
        (image,) = connection().images.thumbnails([(product_id, 0)])
        with st.container(width=200):
            show_image(image, stored.product.title or product_id, "doomed")
        st.text(f"{stored.product.title}\n{stored.product.id} in {stored.product.category}")
        if st.button("Delete this product", icon=":material/delete:"):
            _confirm_deleting(stored)


@st.dialog("Delete this product?")
def _confirm_deleting(stored: StoredProduct) -> None:
    product = stored.product
    st.text(f"{product.id}: {product.title}")
    st.write("It is gone from the server for good, with its images.")
    with st.container(horizontal=True):
        if st.button("Delete it", type="primary"):
            with guarded():
                _finish(connection().delete(product.id, uuid.uuid4().hex), f"{product.id} is deleted.")
        if st.button("Keep it"):
            st.rerun()


def _find(product_id: str) -> StoredProduct | None:
    try:
        return connection().client.get(product_id) if product_id else None
    except LookalikeError as error:
        # an id that cannot be one is for the answer to the product as a whole to name
        if error.code.name in {"NOT_FOUND", "INVALID_ARGUMENT"}:
            return None
        raise


def _finish(status: ItemStatus, done: str) -> None:
    if status.error is not None:
        show_rejection(status.error)
        return
    st.session_state[_DONE] = done
    st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1
    st.session_state.pop(_WAITING, None)
    st.session_state.pop("delete-id", None)
    st.rerun()
