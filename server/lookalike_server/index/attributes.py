"""The attributes of a partition's rows, by slot, so that a filter is a few array operations.

Every attribute is a column of codes; a value has a code for as long as a row has the value, so prices that change all
day leave nothing behind. Read and changed under the partition's lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from lookalike_server.domain.filters import Between, Condition, NoneOf, OneOf, number
from lookalike_server.index.row_storage import Slots

Mask = npt.NDArray[np.bool_]
S = TypeVar("S", bound=np.generic)

_NONE = -1  # the code of a row that lacks the attribute


class AttributeColumns:
    """A column for each attribute that any row has."""

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}
        self._names: dict[int, tuple[str, ...]] = {}  # by slot
        self._shapes: dict[tuple[str, ...], tuple[str, ...]] = {}  # each only once: most rows have the same

    def put(self, slot: int, attributes: Mapping[str, str]) -> None:
        """Give a row these attributes and no others."""
        self.drop(slot)
        for name, text in attributes.items():
            column = self._columns.get(name)
            if column is None:
                column = self._columns[name] = _Column()
            column.put(slot, text)
        names = tuple(attributes)
        self._names[slot] = self._shapes.setdefault(names, names)

    def drop(self, slot: int) -> None:
        """Take a row's attributes away."""
        for name in self._names.pop(slot, ()):
            column = self._columns[name]
            column.drop(slot)
            if not column:
                del self._columns[name]

    def of(self, slot: int) -> dict[str, str]:
        """A row's attributes."""
        return {name: self._columns[name].of(slot) for name in self._names.get(slot, ())}

    def taken(self, slots: Slots) -> AttributeColumns:
        """Columns in which row i has what row slots[i] has here (int64 [n])."""
        taken = AttributeColumns()
        for name, column in self._columns.items():
            copy = column.taken(slots)
            if copy:
                taken._columns[name] = copy
        taken._names = {new: self._names[old] for new, old in enumerate(slots.tolist()) if old in self._names}
        taken._shapes = dict(self._shapes)
        return taken

    def matching(self, conditions: Sequence[Condition], count: int) -> Mask:
        """Which of the first `count` rows meet all conditions: bool [count]."""
        mask = np.ones(count, dtype=np.bool_)
        for condition in conditions:
            column = self._columns.get(condition.attribute)
            if column is not None:
                mask &= column.matching(condition, count)
            elif not isinstance(condition, NoneOf):
                mask[:] = False
        return mask


class _Column:
    """One attribute: a code for each slot, and a text, a number and a count for each code."""

    def __init__(self) -> None:
        self._codes: npt.NDArray[np.int32] = np.empty(0, dtype=np.int32)  # by slot
        self._values: dict[str, int] = {}  # text to code
        self._texts: list[str] = []
        self._numbers: npt.NDArray[np.float64] = np.empty(0, dtype=np.float64)
        self._counts: list[int] = []
        self._free: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._values)

    def put(self, slot: int, text: str) -> None:
        code = self._values.get(text)
        if code is None:
            code = self._values[text] = self._new_code(text)
        self._codes = _grown(self._codes, slot + 1, _NONE)
        self._codes[slot] = code
        self._counts[code] += 1

    def drop(self, slot: int) -> None:
        code = int(self._codes[slot])
        self._codes[slot] = _NONE
        self._counts[code] -= 1
        if self._counts[code] == 0:
            del self._values[self._texts[code]]
            self._free.append(code)

    def of(self, slot: int) -> str:
        return self._texts[int(self._codes[slot])]

    def taken(self, slots: Slots) -> _Column:
        taken = _Column()
        taken._codes = _grown(self._codes, int(slots.max(initial=-1)) + 1, _NONE)[slots]
        taken._texts, taken._numbers = list(self._texts), self._numbers.copy()
        taken._counts = np.bincount(taken._codes[taken._codes != _NONE], minlength=len(self._texts)).tolist()
        taken._values = {text: code for text, code in self._values.items() if taken._counts[code]}
        taken._free = [code for code, count in enumerate(taken._counts) if not count]
        return taken

    def matching(self, condition: Condition, count: int) -> Mask:
        codes = _grown(self._codes, count, _NONE)[:count]
        match condition:
            case OneOf(values=values):
                return np.isin(codes, self._codes_of(values))
            case NoneOf(values=values):
                return np.isin(codes, self._codes_of(values), invert=True)
            case Between(minimum=minimum, maximum=maximum):
                within = (self._numbers >= minimum) & (self._numbers <= maximum)  # a NaN is nowhere
                mask: Mask = (codes != _NONE) & within[codes]
                return mask

    def _codes_of(self, texts: frozenset[str]) -> list[int]:
        return [self._values[text] for text in texts if text in self._values]

    def _new_code(self, text: str) -> int:
        if self._free:
            code = self._free.pop()
            self._texts[code] = text
        else:
            code = len(self._texts)
            self._texts.append(text)
            self._counts.append(0)
            self._numbers = _grown(self._numbers, code + 1, np.nan)
        self._numbers[code] = number(text)
        return code


def _grown(array: npt.NDArray[S], length: int, filling: float) -> npt.NDArray[S]:
    if length <= len(array):
        return array
    grown = np.full(max(length, 8, len(array) * 3 // 2), filling, dtype=array.dtype)
    grown[: len(array)] = array
    return grown
