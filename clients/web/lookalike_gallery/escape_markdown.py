"""Escapes catalog data where Streamlit would render it as Markdown."""

from __future__ import annotations

import re
import string

_PUNCTUATION = re.compile(f"([{re.escape(string.punctuation)}])")
# Streamlit also searches the rendered text, where the backslashes are gone, for URLs, icons, emoji and arrows. An
# invisible character breaks each of these.
_TRIGGERS = re.compile(r"(?<=[:@])(?=\S)|(?<=www)(?=\.)|(?<=[-<>~])(?=[-=>])", re.IGNORECASE)
WORD_JOINER = "\N{WORD JOINER}"


def escape_markdown(text: str) -> str:
    """Return the text as one line in which nothing renders as Markdown, a link, an icon or HTML."""
    return _PUNCTUATION.sub(r"\\\1", _TRIGGERS.sub(WORD_JOINER, " ".join(text.split())))
