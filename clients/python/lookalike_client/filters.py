"""Conditions on a product's attributes, for `search(filters=...)`: all of them must hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Equals:
    """The attribute's value is this one; a product that lacks the attribute fails."""

    attribute: str
    value: str


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The attribute's value is one of these, 1 to 1000; a product that lacks the attribute fails."""

    attribute: str
    values: Sequence[str]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """The attribute's value is none of these, 1 to 1000; a product that lacks the attribute passes."""

    attribute: str
    values: Sequence[str]


@dataclass(frozen=True, slots=True)
class Between:
    """The attribute's value reads as a decimal number within bounds; a product that lacks the attribute fails.

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
