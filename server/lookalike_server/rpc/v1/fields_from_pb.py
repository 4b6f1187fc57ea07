"""Checks of the plain values in requests, and the limits that the API promises."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from lookalike_server.domain.catalog import MAX_ATTRIBUTES
from lookalike_server.domain.errors import invalid

MAX_ITEMS = 1000
MAX_IMAGES = 8
MAX_NAME_BYTES = 256
MAX_TEXT_BYTES = 4096

# Characters, which have at most four bytes each.
_SHORT_NAME = MAX_NAME_BYTES // 4
_SHORT_TEXT = MAX_TEXT_BYTES // 4


def name(value: str, field: str) -> str:
    """Check an id, a category or another name: 1 to 256 bytes without control characters."""
    if not value:
        raise invalid(field, "is empty")
    if len(value) > _SHORT_NAME and len(value.encode()) > MAX_NAME_BYTES:
        raise invalid(field, f"is longer than {MAX_NAME_BYTES} bytes")
    # A control character is not printable; nearly every name is.
    if not value.isprintable() and any(unicodedata.category(character) == "Cc" for character in value):
        raise invalid(field, "has a control character")
    return value


def text(value: str, field: str) -> str:
    """Check a text: at most 4096 bytes."""
    if len(value) > _SHORT_TEXT and len(value.encode()) > MAX_TEXT_BYTES:
        raise invalid(field, f"is longer than {MAX_TEXT_BYTES} bytes")
    return value


def attributes(values: Mapping[str, str], field: str) -> dict[str, str]:
    """Check the attributes of a product."""
    if len(values) > MAX_ATTRIBUTES:
        raise invalid(field, f"has {len(values)} entries; send at most {MAX_ATTRIBUTES}")
    checked = {}
    for key in values:  # `items` of a message's map takes four times as long
        value = values[key]
        if len(value) > _SHORT_TEXT:
            text(value, f"{field}[{key!r}]")
        checked[name(key, field)] = value
    return checked


def check_count(count: int, field: str) -> None:
    """Check the length of a list."""
    if not 1 <= count <= MAX_ITEMS:
        raise invalid(field, f"has {count} entries; send 1 to {MAX_ITEMS}")
