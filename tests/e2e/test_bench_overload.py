"""The benchmarks' overload and bad messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.benchmark_runs import bench


@pytest.mark.nightly
def test_overload_is_measured_over_the_capacity(tmp_path: Path) -> None:
    """Each load is a row of its own that says what could be sent; over a device of fixed pace goodput has a bound."""
    _, written = bench(tmp_path, "--scenarios", "overload", "--workloads", "embed", "--loads", "2", "--pace", "50")
    results = {(result["name"], result["versus"]): result for result in written["results"]}
    paced = results["goodput: Embed, 50 images/s, 2x", "1x; 2x"]
    assert paced["bound"] == ">= 0.95"
    assert paced["details"]["offered_over_capacity"][0] > 1.5
    fast = {versus.split(";")[0] for name, versus in results if name == "goodput: Embed, full speed, 2x"}
    assert fast == {"1x", "what rejecting leaves, both ends of an echo", "what rejecting leaves, an echo's server"}


@pytest.mark.slow
def test_a_bad_message_is_measured_with_and_without_a_token(tmp_path: Path) -> None:
    """What is required depends on whether the server could know who sent it, and on what it answered."""
    _, written = bench(tmp_path, "--scenarios", "message-cost", "--messages", "metadata,png")
    rows = {(result["name"], result["versus"]): result for result in written["results"]}
    assert rows["memory, MiB: PNG, 12 Mpx", "without a token: UNAUTHENTICATED"]["bound"] == "<= 16.0"
    accepted = rows["memory, MiB: PNG, 12 Mpx", "with a token: OK"]
    assert accepted["bound"] == "<= 256.0"
    assert accepted["value"]["median"] > 1
    assert rows["processor, ms: PNG, 12 Mpx", "with a token: OK"]["bound"] == "<= 250.0"
    assert sum("50 KB of metadata" in name for name, _ in rows) == 4
