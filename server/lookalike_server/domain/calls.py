"""Calls and who makes them. Times are `time.monotonic()`."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes calls: the owner of a token, or an address.

    Attributes:
        name: What its calls are counted under.
        weight: Its share of a contended resource, relative to the other callers.
    """

    name: str
    weight: float = 1.0


ANYBODY = Caller("")
"""The caller where nobody tells callers apart."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call.

    Attributes:
        arrived: When it arrived.
        deadline: Until when its response must be ready; infinite for no deadline.
        caller: Who makes it.
        categories: The only categories that it may touch; None for all.
    """

    arrived: float
    deadline: float
    caller: Caller = ANYBODY
    categories: frozenset[str] | None = None

    def for_item(self) -> Call:
        """Return the call of an item of a stream that arrives now, with the same deadline."""
        return replace(self, arrived=time.monotonic())
