"""The log as whoever collects it reads it."""

from __future__ import annotations

import json
import sys

import pytest
import structlog

from lookalike_server.telemetry import configure_log


class _Pipe:
    """Keeps every write by itself, as a pipe that a server writes to without a buffer."""

    def __init__(self) -> None:
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.writes.append(text)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""


def test_a_line_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is killed leaves no half line behind, which the next one's first would be joined to."""
    pipe = _Pipe()
    monkeypatch.setattr(sys, "stderr", pipe)
    try:
        configure_log("json", "info")
        structlog.get_logger().info("serving", port=1)
        structlog.get_logger().warning("a line\nbreak")
    finally:
        structlog.reset_defaults()
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in pipe.writes)
    assert [json.loads(line)["event"] for line in pipe.writes] == ["serving", "a line\nbreak"]
