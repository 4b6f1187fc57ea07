"""Functions that damage a file, each to parametrize a test with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def flipped(share: float) -> Callable[[Path], None]:
    """Return a function that flips one bit, at this fraction of the file."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(share * (len(data) - 1))] ^= 0x10
        path.write_bytes(data)

    return damage


def cut(share: float) -> Callable[[Path], None]:
    """Return a function that truncates the file to this fraction."""

    def damage(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return damage
