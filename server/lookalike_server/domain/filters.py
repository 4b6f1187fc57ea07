"""Conditions on a product's attributes. A product that lacks the attribute passes `NoneOf` only."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TypeAlias

_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class OneOf:
    """The attribute's value is one of these."""

    attribute: str
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """The attribute's value is none of these, or it has none."""

    attribute: str
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class Between:
    """The attribute's value is a decimal number from `minimum` to `maximum`, both included."""

    attribute: str
    minimum: float
    maximum: float


Condition: TypeAlias = OneOf | NoneOf | Between


def number(text: str) -> float:
    """Parse a decimal number, NaN where the text is none; `inf`, `1_000` and ` 1` are none."""
    return float(text) if _DECIMAL.fullmatch(text) else math.nan
