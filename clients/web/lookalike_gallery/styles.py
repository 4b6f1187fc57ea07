"""CSS beyond the theme: a constant, so that no catalog data can reach it."""

from __future__ import annotations

import streamlit as st
from PIL import Image, ImageDraw

# A card's button covers the whole card, so that its image can be clicked too and the focus ring surrounds the card.
_STYLE = """
<style>
.stMainBlockContainer { padding-top: 4.5rem; padding-bottom: 3rem; }
.st-key-cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); align-items: stretch; }
.st-key-cards > * { width: 100%; }
[class*="st-key-card-"] { position: relative; height: 100%; }
[class*="st-key-card-"]:hover { border-color: currentColor; }
[class*="st-key-card-"] [class*="st-key-select-"],
[class*="st-key-card-"] .stButton,
[class*="st-key-card-"] .stButton button { position: static; }
[class*="st-key-card-"] .stButton button { overflow-wrap: anywhere; text-align: left; }
[class*="st-key-card-"] .stButton button::after {
  content: ""; position: absolute; inset: 0; border-radius: 0.6rem; cursor: pointer; }
[class*="st-key-card-"] .stButton button:focus-visible { box-shadow: none; }
[class*="st-key-card-"] .stButton button:focus-visible::after { outline: 3px solid currentColor; outline-offset: 1px; }
[class*="st-key-card-"] [data-testid="stElementToolbar"] { display: none; }
[class*="st-key-duplicates-"] { position: relative; z-index: 1; }
[class*="st-key-image-"] img { aspect-ratio: 3 / 4; object-fit: contain; background: white; }
.stText { overflow-wrap: anywhere; white-space: pre-wrap; }
.st-key-narrow-navigation { display: none; }
@media (max-width: 767px) { .st-key-narrow-navigation { display: flex; } }
.st-key-brand .stText { opacity: 0.75; font-size: 0.9rem; }
.st-key-query { max-width: 44rem; }
.st-key-query-title .stText { font-size: 1.3rem; font-weight: 600; }
[class*="st-key-range-"] [data-testid="stColumn"] { min-width: 0; flex: 1 1 0; }
[class*="st-key-range-"] [data-testid="stNumberInputContainer"] button { display: none; }
</style>
"""


def apply_style() -> None:
    """Add the style sheet to this run of the page."""
    st.html(_STYLE)


@st.cache_resource(show_spinner=False)
def icon() -> Image.Image:
    """Draw the tab's icon, two overlapping rings; Streamlit would fetch a named icon from another host."""
    image = Image.new("RGBA", (64, 64))
    draw = ImageDraw.Draw(image)
    for left in (4, 24):
        draw.ellipse((left, 14, left + 36, 50), outline="#0f9f92", width=7)
    return image
