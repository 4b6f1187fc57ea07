"""What only the garbage collector can free: objects in cycles, counted by their types."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Garbage:
    """Objects that nothing referred to any more but one another, or that these referred to.

    Attributes:
        types: How many there are of each type, by its full name.
        size: Of all, in bytes.
    """

    types: Counter[str] = field(default_factory=Counter)
    size: int = 0

    def add(self, found: list[object]) -> None:
        """Count objects."""
        self.types.update(f"{type(one).__module__}.{type(one).__qualname__}" for one in found)
        self.size += sum(map(sys.getsizeof, found))


@contextmanager
def garbage() -> Iterator[Garbage]:
    """Count the garbage that the block makes, once it is over."""
    found = Garbage()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found.add(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
