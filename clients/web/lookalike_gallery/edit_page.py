"""The Products page: add, replace or delete a product; replacing and deleting ask for confirmation."""

from __future__ import annotations

import uuid

import streamlit as st

from lookalike_client import ItemStatus, LookalikeError, ProductInput, StoredProduct
from lookalike_gallery.cards import show_image
from lookalike_gallery.connection import connection
from lookalike_gallery.errors import show_error, show_errors, show_problems
from lookalike_gallery.paste import MAX_IMAGE_MIB, MAX_IMAGES, accept_pasted_images

# Session state: the version of the form (a new one is empty) and of the uploader, the message after an edit, and its
# idempotency key.
_FORM, _FILES, _MESSAGE, _KEY = "form-version", "files-version", "edit-message", "edit-key"
_TOO_MANY = "too-many-files"


def show() -> None:
    """Show the page."""
    st.header("Products", anchor=False)
    message = st.session_state.pop(_MESSAGE, None)
    if message is not None:
        st.success("Saved on the server.")
        st.text(message)
    add, delete = st.tabs(["Add or replace", "Delete"])
    with add:
        _add()
    with delete:
        _delete()


def parse_attributes(text: str) -> tuple[dict[str, str], list[str]]:
    """Parse `name=value` lines into attributes; also return the invalid lines. Empty lines are skipped."""
    attributes: dict[str, str] = {}
    invalid = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, equals, value = (each.strip() for each in line.partition("="))
        if not equals or not name or name in attributes:
            invalid.append(line)
        else:
            attributes[name] = value
    return attributes, invalid


def _add() -> None:
    version = st.session_state.setdefault(_FORM, 0)
    names = [category.name for category in connection().categories()]
    images = _upload_images(version)
    with st.form(f"add-{version}"):
        left, right = st.columns(2)
        product_id = left.text_input("Product id *", max_chars=256, key=f"new-id-{version}")
        category = right.selectbox(
            "Category *",
            names,
            index=None,
            accept_new_options=True,
            key=f"new-category-{version}",
            placeholder="choose one, or enter a new one",
        )
        title = st.text_input("Title", key=f"new-title-{version}")
        attributes_text = st.text_area(
            "Attributes, one per line", placeholder="color=red\nprice=19.50", key=f"new-attributes-{version}"
        )
        st.caption("\\* required")
        submitted = st.form_submit_button("Store", type="primary")
    accept_pasted_images()
    if not submitted:
        return
    attributes, invalid = parse_attributes(attributes_text)
    problems = [
        f"{name}: is missing"
        for name, value in (
            ("Images", images),
            ("Product id", product_id.strip()),
            ("Category", (category or "").strip()),
        )
        if not value
    ]
    problems += [f"Attributes: {line!r} must be name=value with a name of its own" for line in invalid]
    if problems:
        show_problems("Nothing was stored:", problems)
        return
    product = ProductInput(
        id=product_id.strip(),
        category=(category or "").strip(),
        title=title.strip(),
        attributes=attributes,
        images=images,
    )
    with show_errors():
        existing = _find(product.id)
        if existing is None:
            _finish(connection().store(product, uuid.uuid4().hex), f"{product.id} is stored in {product.category}.")
        else:
            _confirm_replace(product, existing)


def _upload_images(version: int) -> list[bytes]:
    """Ask for images outside of the form, so that too many are dropped at once and not kept until it is sent."""
    key = f"files-{version}-{st.session_state.get(_FILES, 0)}"
    files = st.file_uploader(
        f"Images *: drop, choose or paste up to {MAX_IMAGES}",
        accept_multiple_files=True,
        key=key,
        max_upload_size=MAX_IMAGE_MIB,
    )
    if len(files) > MAX_IMAGES:
        st.session_state[_FILES] = st.session_state.get(_FILES, 0) + 1
        st.session_state[_TOO_MANY] = len(files)
        st.rerun()
    if (count := st.session_state.pop(_TOO_MANY, None)) is not None:
        show_problems("Nothing was uploaded:", [f"Images: {count} files; a product has at most {MAX_IMAGES}"])
    return [file.getvalue() for file in files]


@st.dialog("Replace this product?")
def _confirm_replace(product: ProductInput, existing: StoredProduct) -> None:
    st.text(f"{existing.product.id} already exists: {existing.product.title}")
    st.write("Its title, category, attributes and images will be replaced.")
    key = st.session_state.setdefault(_KEY, uuid.uuid4().hex)
    with st.container(horizontal=True):
        if st.button("Replace", type="primary"):
            with show_errors():
                _finish(connection().store(product, key), f"{product.id} is replaced.")
        if st.button("Cancel"):
            st.rerun()


def _delete() -> None:
    product_id = st.text_input("Id of the product to delete", max_chars=256, key="delete-id").strip()
    if not product_id:
        return
    with show_errors():
        stored = connection().client.get(product_id)
        (image,) = connection().thumbnails.get([(product_id, 0)])
        with st.container(width=200):
            show_image(image, stored.product.title or product_id, "delete")
        st.text(f"{stored.product.title}\n{stored.product.id} in {stored.product.category}")
        if st.button("Delete this product", icon=":material/delete:"):
            _confirm_delete(stored)


@st.dialog("Delete this product?")
def _confirm_delete(stored: StoredProduct) -> None:
    product = stored.product
    st.text(f"{product.id}: {product.title}")
    st.write("The product and its images will be deleted permanently.")
    with st.container(horizontal=True):
        if st.button("Delete", type="primary"):
            with show_errors():
                _finish(connection().delete(product.id, uuid.uuid4().hex), f"{product.id} is deleted.")
        if st.button("Cancel"):
            st.rerun()


def _find(product_id: str) -> StoredProduct | None:
    try:
        return connection().client.get(product_id) if product_id else None
    except LookalikeError as error:
        # the response to the upsert names every invalid field, an invalid id among them
        if error.code.name in {"NOT_FOUND", "INVALID_ARGUMENT"}:
            return None
        raise


def _finish(status: ItemStatus, message: str) -> None:
    if status.error is not None:
        show_error(status.error)
        return
    st.session_state[_MESSAGE] = message
    st.session_state[_FORM] = st.session_state.get(_FORM, 0) + 1
    st.session_state.pop(_KEY, None)
    st.session_state.pop("delete-id", None)
    st.rerun()
