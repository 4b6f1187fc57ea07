"""What SIGHUP reads again: each part adds what reloads it, and a part that cannot be reloaded keeps what it has."""

from __future__ import annotations

from collections.abc import Callable

import structlog


class Reloads:
    """The parts of a process that can be reloaded while it serves. Lives on one event loop, or without any."""

    def __init__(self) -> None:
        self._parts: list[tuple[str, Callable[[], None]]] = []

    def add(self, name: str, reload: Callable[[], None]) -> None:
        """Add a part: its name for the log, and what reloads it or raises and changes nothing. It must not block."""
        self._parts.append((name, reload))

    def run(self) -> None:
        """Reload all parts in the order in which they were added; log what was, and why what was not."""
        for name, reload in self._parts:
            try:
                reload()
            except Exception as error:  # noqa: BLE001 - a part that fails must end neither the others nor the server
                structlog.get_logger().error("reload_failed", part=name, error=str(error))
            else:
                structlog.get_logger().info("reloaded", part=name)
