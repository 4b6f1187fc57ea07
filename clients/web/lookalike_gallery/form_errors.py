"""The server's violations in the words of the page: its fields instead of those of the request."""

from __future__ import annotations

import re

from lookalike_client import LookalikeError

FIELDS = (
    (r"(products\[0\]|product)\.id", "Product id"),
    (r"(products\[0\]|product)\.category", "Category"),
    (r"(products\[0\]|product)\.title", "Title"),
    (r"(products\[0\]|product)\.attributes.*", "Attributes"),
    (r"(products\[0\]|product)\.images", "Images"),
    (r"image\..*", "Image"),
    (r"product_id|id", "Product id"),
    (r"category|all_categories", "Category to search"),
    (r"k", "Neighbors"),
    (r"filters.*", "Filters"),
    (r"group_by|group_limit", "Group by"),
)
"""Patterns of the request's fields, and the fields of the pages."""

_IMAGE = re.compile(r"(?:products\[0\]|product)\.images\[(\d+)\].*")


def reasons(error: LookalikeError) -> list[str]:
    """Return a line for each invalid field, or the message of an error that has none."""
    lines = [f"{_name(each.field)}: {each.description}" for each in error.violations]
    return lines or [error.message or str(error)]


def _name(field: str) -> str:
    if image := _IMAGE.fullmatch(field):
        return f"Image {int(image[1]) + 1}"
    return next((name for pattern, name in FIELDS if re.fullmatch(pattern, field)), field)
