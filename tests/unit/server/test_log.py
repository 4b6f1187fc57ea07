"""The log as a collector reads it."""

from __future__ import annotations

import json
import sys

import pytest
import structlog

from lookalike_server.telemetry import configure_log


class _Pipe:
    """Records every write by itself, as an unbuffered pipe has them."""

    def __init__(self) -> None:
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.writes.append(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: there is no buffer."""


def test_a_line_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line and its end are one write, so a server that is killed leaves no unfinished line."""
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
