"""Shows text of others as text where Streamlit would read it as Markdown; pure."""

from __future__ import annotations

import re
import string

_MARKS = re.compile(f"([{re.escape(string.punctuation)}])")
# What Streamlit looks for in the finished text, where a backslash is gone: addresses, icons, emoji and arrows. Each has
# a joint that an invisible character opens.
_JOINTS = re.compile(r"(?<=[:@])(?=\S)|(?<=www)(?=\.)|(?<=[-<>~])(?=[-=>])", re.IGNORECASE)
WORD_JOINER = "\N{WORD JOINER}"


def plain(text: str) -> str:
    """The same text for a label: nothing in it is Markdown, a link, an icon or HTML, and it is one line."""
    return _MARKS.sub(r"\\\1", _JOINTS.sub(WORD_JOINER, " ".join(text.split())))
