"""The benchmarks' scenarios of the front door."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.benchmark_runs import bench
from support.paths import ROOT


@pytest.mark.nightly
def test_rejections_fairness_and_an_older_version_are_measured(tmp_path: Path) -> None:
    """Each scenario of the front door has its rows, and the bounds that are required of them."""
    _, written = bench(
        tmp_path,
        *("--scenarios", "fairness,rejection,front-door", "--workloads", "embed"),
        *("--places", "pace", "--before", ROOT),
    )
    bounds = {(result["name"], result["versus"]): result["bound"] for result in written["results"]}
    assert bounds["quiet caller's p50: Embed, 30 images/s", "alone; greedy one at 10x"] == "<= 1.5"
    assert bounds["rejection: Embed, raw", "echo of the same bytes"] == "<= 1.1"
    assert bounds["rejection: Embed, jpeg", "echo of 16 bytes"] == "reported"
    assert bounds["throughput", "ours (before)"] == bounds["null model, RPC/s", "ours (before)"] == ">= 0.98"
