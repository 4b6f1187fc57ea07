"""The syntax of `search --where`: conditions on attributes."""

from __future__ import annotations

import re
from typing import Any

import click

from lookalike_client.filters import AnyOf, Between, Equals, Filter, NoneOf

FORMS = "NAME=VALUE, NAME=VALUE|VALUE, NAME!=VALUE|VALUE, NAME<=NUMBER, NAME>=NUMBER, NAME=NUMBER..NUMBER"

# a value cannot begin with a comparison operator: that is a typo, such as == or =>, which would silently find nothing
_EXPRESSION = re.compile(r"([^=<>!]+)(=|!=|<=|>=)\s*([^=<>\s].*)", re.DOTALL)
_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})?\s*\.\.\s*({_NUMBER})?", re.ASCII)


def parse(text: str) -> Filter:
    """Parse a condition; spaces around names, values and numbers are ignored.

    Raises:
        ValueError: What is wrong with it; continues a sentence that begins with the text.
    """
    expression = _EXPRESSION.fullmatch(text.strip())
    if expression is None:
        raise ValueError("is not a condition")
    name, operator, rest = (part.strip() for part in expression.groups())
    if operator == "<=":
        return Between(name, maximum=_number(rest))
    if operator == ">=":
        return Between(name, minimum=_number(rest))
    bounds = _RANGE.fullmatch(rest)
    if operator == "=" and bounds is not None:
        low, high = bounds.groups()
        if low is None or high is None:
            raise ValueError("is a range with one bound; write NAME>=NUMBER or NAME<=NUMBER")
        if float(low) > float(high):
            raise ValueError(f"is an empty range: {low} is greater than {high}")
        return Between(name, float(low), float(high))
    values = tuple(value.strip() for value in rest.split("|"))
    if "" in values:
        raise ValueError("has an empty value")
    if operator == "!=":
        return NoneOf(name, values)
    return Equals(name, values[0]) if len(values) == 1 else AnyOf(name, values)


def _number(text: str) -> float:
    if not re.fullmatch(_NUMBER, text, re.ASCII):
        raise ValueError(f"compares with {text!r}, which is not a number")
    return float(text)


class _WhereType(click.ParamType[Filter]):
    name = "CONDITION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Filter:
        try:
            return parse(str(value))
        except ValueError as error:
            self.fail(f"{value!r} {error}. The forms are: {FORMS}.", param, ctx)


WHERE = _WhereType()
"""The type of a `--where` option."""
