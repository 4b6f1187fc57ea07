"""What a system is to the benchmark."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from benchmarks.jobs import Target


@dataclass(frozen=True, slots=True)
class System:
    """One way of serving a model.

    Attributes:
        name: Whose it is.
        variant: With which settings.
        start: Starts it, and ends it when the block ends; raises `StartError` with a reason when it cannot.
        settings: What the variant means.
        jpeg: Whether it takes image files too.
    """

    name: str
    variant: str
    start: Callable[[], AbstractContextManager[Target]]
    settings: str = ""
    jpeg: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.variant})" if self.variant else self.name


def free_port() -> int:
    """A port of the loopback interface that nobody has; for systems that cannot say which one they took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
