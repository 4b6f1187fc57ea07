"""Reloading: every part in turn, and one that fails keeps the others from nothing."""

from __future__ import annotations

from structlog.testing import capture_logs

from lookalike_server.reloading import Reloads


def test_a_part_that_fails_fails_alone() -> None:
    """Parts are reloaded in the order in which they were added; the log has what was, and why what was not."""
    reloaded = []

    def fail() -> None:
        raise ValueError("half written")

    reloads = Reloads()
    reloads.add("keys", lambda: reloaded.append("keys"))
    reloads.add("certificate", fail)
    reloads.add("level", lambda: reloaded.append("level"))
    with capture_logs() as log:
        reloads.run()
    assert reloaded == ["keys", "level"]
    assert [(line["event"], line["part"]) for line in log] == [
        ("reloaded", "keys"),
        ("reload_failed", "certificate"),
        ("reloaded", "level"),
    ]
    assert log[1]["error"] == "half written"
