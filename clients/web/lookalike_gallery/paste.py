"""Accepts pasted images, which Streamlit's file uploader does not."""

from __future__ import annotations

import streamlit as st

MAX_IMAGES = 8
"""The most images of a product."""

MAX_IMAGE_MIB = 10
"""The largest image file, as the server's default of max_image_bytes."""

# Selects the pasted file in the uploader's own input. The test id of that input is internal to Streamlit and may change
# with its version, which is locked; a test covers pasting.
_SCRIPT = """
export default function () {
  const paste = (event) => {
    const images = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
    const input = document.querySelector('[data-testid="stFileUploaderDropzoneInput"]');
    if (!images.length || !input) return;
    event.preventDefault();
    const chosen = new DataTransfer();
    for (const image of images.slice(0, input.multiple ? 8 : 1)) chosen.items.add(image);
    input.files = chosen.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  document.addEventListener("paste", paste);
  return () => document.removeEventListener("paste", paste);
}
"""


def accept_pasted_images() -> None:
    """Pass images that are pasted anywhere on this page to its uploader."""
    st.components.v2.component("paste_images", js=_SCRIPT)(key="paste-images")
