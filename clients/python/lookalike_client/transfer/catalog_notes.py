"""What an import says at its end about attributes: values that were left out, and numbers that no filter finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from lookalike_client.transfer.plain_numbers import is_plain, plain_number

MAX_TEXT_BYTES = 4096
"""The longest value of an attribute in bytes of UTF-8, by the API."""


@dataclass
class _Numbers:
    plain: int = 0
    dressed: int = 0
    texts: int = 0
    first: tuple[str, int] = ("", 0)


@dataclass
class CatalogNotes:
    """Notes on the rows of one reading."""

    _too_long: Counter[str] = field(default_factory=Counter)
    _numbers: dict[str, _Numbers] = field(default_factory=dict)

    def leave_out(self, name: str) -> None:
        """Count a value that was too long."""
        self._too_long[name] += 1

    def see(self, name: str, value: str, row: int) -> None:
        """Look whether a value is a number that filters cannot read."""
        numbers = self._numbers.get(name)
        if numbers is None:
            numbers = self._numbers[name] = _Numbers()
        if is_plain(value):
            numbers.plain += 1
        elif plain_number(value) is None:
            numbers.texts += 1
        else:
            numbers.dressed += 1
            if numbers.dressed == 1:
                numbers.first = (value, row)

    def lines(self) -> Sequence[str]:
        """Return a sentence for each column that has something to note."""
        notes = [
            f"{name}: {count:,} {'value is' if count == 1 else 'values are'} longer than {MAX_TEXT_BYTES:,} bytes and"
            " left out; --ignore-columns leaves out the column"
            for name, count in self._too_long.items()
        ]
        for name, numbers in self._numbers.items():
            # "EUR 42" among sizes in letters is a text as well
            if numbers.dressed and numbers.plain + numbers.dressed >= numbers.texts:
                value, row = numbers.first
                total = numbers.plain + numbers.dressed + numbers.texts
                notes.append(
                    f"{name}: {numbers.dressed:,} of {total:,} values are numbers that filters do not read, the first"
                    f" {value!r} in row {row}; --numeric {name} converts them"
                )
        return notes
