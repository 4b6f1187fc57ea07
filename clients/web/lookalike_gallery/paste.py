"""Lets an image be pasted into a page's uploader, which Streamlit's own takes only dropped or chosen."""

from __future__ import annotations

import streamlit as st

# The pasted file goes the way of a chosen one. The name of the uploader's input is Streamlit's own and may change with
# it; its version is locked, and a test pastes.
_SCRIPT = """
export default function () {
  const paste = (event) => {
    const images = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
    const input = document.querySelector('[data-testid="stFileUploaderDropzoneInput"]');
    if (!images.length || !input) return;
    event.preventDefault();
    const chosen = new DataTransfer();
    for (const image of input.multiple ? images : images.slice(0, 1)) chosen.items.add(image);
    input.files = chosen.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  document.addEventListener("paste", paste);
  return () => document.removeEventListener("paste", paste);
}
"""


def accept_pasted_images() -> None:
    """Hand images that are pasted anywhere on this page to its uploader."""
    st.components.v2.component("paste_images", js=_SCRIPT)(key="paste-images")
