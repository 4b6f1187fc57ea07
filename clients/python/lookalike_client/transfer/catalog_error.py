"""What is wrong with a catalog's files."""

from __future__ import annotations

from dataclasses import dataclass


class CatalogError(Exception):
    """Why a file as a whole cannot be used; written for the user."""


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A row that was not imported, and why; `number` is as in CatalogRow, or counted from 0 in an array."""

    number: int
    product_id: str
    reason: str
