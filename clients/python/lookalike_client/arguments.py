"""Checks of what a caller gives, before protobuf sees it: its own errors name neither the argument nor the value."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

_MAX_SHOWN = 40


def text(value: Any, name: str) -> str:
    """Return a string; empty for None, which leaves a field unset.

    Raises:
        TypeError: It is neither.
        ValueError: It is not valid Unicode, as a file name that is not UTF-8.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {_shown(value)}{_remedy(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{name} is not valid Unicode: {value[:_MAX_SHOWN]!a}") from None
    return value


def required(value: Any, name: str) -> str:
    """Return a string.

    Raises:
        TypeError: It is none.
        ValueError: As `text`.
    """
    if value is None:
        raise TypeError(f"{name} must be a string, not None; leave it out where there is no value")
    return text(value, name)


def texts(values: Any, name: str, what: str, of: str = "") -> list[str]:
    """Return strings as a list; the errors name them as `name` `of`, and say `what` they are.

    Raises:
        TypeError: They are one string, or one of them is not a string.
        ValueError: As `text`.
    """
    return [required(each, f"{name}[{at}]{of}") for at, each in enumerate(sequence(values, name + of, what))]


def attributes(values: Any, of: str = "") -> dict[str, str]:
    """Return attributes `of` a product, whose names and values must be strings.

    Raises:
        TypeError: It is no mapping, or a name or a value is not a string.
        ValueError: As `text`.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"attributes{of} must be a mapping of names to values, not {_shown(values)}")
    return {
        required(key, f"a name in attributes{of}"): required(values[key], f"attributes[{key!r}]{of}") for key in values
    }


def integer(value: Any, name: str) -> int:
    """Return a whole number.

    Raises:
        TypeError: It is none.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {_shown(value)}") from None


def number(value: Any, name: str) -> float:
    """Return a number.

    Raises:
        TypeError: It is none, for instance a string.
    """
    if isinstance(value, str | bytes) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number, not {_shown(value)}")
    return float(value)


def flag(value: Any, name: str) -> bool:
    """Return a truth value.

    Raises:
        TypeError: It is none; the string "false" would be true.
    """
    if not isinstance(value, bool | np.bool_ | int):
        raise TypeError(f"{name} must be True or False, not {_shown(value)}")
    return bool(value)


def optional(convert: Callable[[Any, str], T], value: Any, name: str) -> T | None:
    """Return a value that may be left unset, as `convert` returns it."""
    return None if value is None else convert(value, name)


def sequence(values: Any, name: str, what: str, *, one: tuple[type, ...] = ()) -> Iterator[Any]:
    """Return an iterator over values; those of the types `one` are a single one.

    Raises:
        TypeError: It is one value, for instance one string: its letters would be taken as names.
    """
    if isinstance(values, str):
        raise TypeError(f"{name} must be a sequence of {what}, not one string")
    if isinstance(values, bytes) or not isinstance(values, Iterable) or isinstance(values, one):
        raise TypeError(f"{name} must be a sequence of {what}, not {_shown(values)}")
    return iter(values)


def pair(value: Any, name: str, what: str) -> tuple[Any, Any]:
    """Return the two values of a tuple or list.

    Raises:
        TypeError: It is neither, or not of two; `what` says which two.
    """
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{name} must be a pair {what}, not {_shown(value)}")
    first, second = value
    return first, second


def _shown(value: Any) -> str:
    shown = repr(value)
    kind = type(value).__name__
    # a long value, or one over several lines as an array is, says less than its type
    return kind if len(shown) > _MAX_SHOWN or "\n" in shown or shown.startswith((kind, "<")) else f"{kind} {shown}"


def _remedy(value: Any) -> str:
    simple = isinstance(value, int | float) and not isinstance(value, bool)
    return f'; write "{value}"' if simple else ""
