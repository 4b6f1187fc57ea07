"""What a server is to the benchmark."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A server that runs.

    Attributes:
        protocol: What it speaks, a key of `protocols.PROTOCOLS`.
        address: Where it listens.
        pid: Its process, where that is of interest.
    """

    protocol: str
    address: str
    pid: int = 0


@dataclass(frozen=True, slots=True)
class ServerVariant:
    """One way of serving a model.

    Attributes:
        name: Which server.
        variant: With which settings.
        start: Starts it, and ends it when the block ends; raises `StartError` with a reason when it cannot.
        settings: What the variant means.
    """

    name: str
    variant: str
    start: Callable[[], AbstractContextManager[Target]]
    settings: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.variant})" if self.variant else self.name
