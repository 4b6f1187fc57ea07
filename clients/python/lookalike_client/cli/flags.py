"""The server's fields as flags of the command, which is what its user can change."""

from __future__ import annotations

import re

from lookalike_client.errors import LookalikeError, Violation

_FLAGS = {
    "category": "--category",
    "all_categories": "--all-categories",
    "k": "-k",
    "filters": "--where",
    "max_distance": "--max-distance",
    "group_by": "--group-by",
    "group_limit": "--group-limit",
    "product_id": "--id",
    "image.region": "--region",
    "image": "--image",
    "vector": "--vector",
    "image_index": "--index",
    "include_attributes": "--attributes",
    "clear": "--clear",
    "attributes": "KEY=VALUE",
    "id": "ID",
    "ids": "ID",
}


def in_flags(error: LookalikeError, *, fields: bool = True) -> str:
    """Return `str(error)` with its fields as flags, or without them; those that have no flag stay as they are."""
    reason = "; ".join(_in_flags(each) if fields else each.description for each in error.violations)
    return f"{error.code.name}: {reason}" if reason else str(error)


def _in_flags(violation: Violation) -> str:
    # the longest name first: `image.region.left` is of --region, `image.encoded` of --image
    for field in sorted(_FLAGS, key=len, reverse=True):
        if re.fullmatch(rf"{re.escape(field)}([.\[].*)?", violation.field):
            return f"{_FLAGS[field]}: {violation.description}"
    return str(violation)
