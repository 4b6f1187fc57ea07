"""Conditions on a product's attributes, for `search(filters=...)`: all of them must hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Equals:
    """The attribute has this value; a product without the attribute does not match."""

    attribute: str
    value: str


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The attribute has one of these 1 to 1000 values; a product without the attribute does not match."""

    attribute: str
    values: Sequence[str]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """The attribute has none of these 1 to 1000 values; a product without the attribute matches."""

    attribute: str
    values: Sequence[str]


@dataclass(frozen=True, slots=True)
class Between:
    """The attribute's value is a decimal number within bounds; a product without the attribute does not match.

    Attributes:
        attribute: Its name.
        minimum: The smallest value allowed; None for no lower bound. At least one of the two must be given.
        maximum: The largest value allowed; None for no upper bound.
    """

    attribute: str
    minimum: float | None = None
    maximum: float | None = None


Filter = Equals | AnyOf | NoneOf | Between
"""One condition on one attribute."""
