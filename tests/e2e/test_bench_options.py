"""The options of the benchmarks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.catalogs import write_products
from support.paths import MODELS, ROOT


def bench(out: Path, *options: str | Path) -> tuple[str, dict[str, Any]]:
    """Measure the tiny model in its shortest form; return the table and what was written."""
    small = ("--rounds", "1", "--seconds", "0.2", "--concurrency", "2", "--peers", "")
    command = [sys.executable, "-m", "benchmarks", "--model", MODELS / "tiny", "--out", out, *small, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    (file,) = out.glob("*.json")
    return done.stdout, json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_limit_is_named_with_its_runtime_and_precision(tmp_path: Path) -> None:
    """The result over the limit says which runtime, shape and precision that was, and the run on what processor."""
    table, written = bench(tmp_path, "--scenarios", "throughput,jpeg", "--precision", "fp32", "--peers", "plain")
    over_limit, over_raw, over_defaults, over_tuned = written["results"]
    assert over_limit["details"]["limit"].startswith(("ONNX Runtime, batch ", "OpenVINO, batch "))
    assert over_limit["details"]["limit_precision"] in {"fp32", "f32"}
    assert over_limit["details"]["limit"] in over_limit["details"]["limit_candidates"]
    assert (over_limit["bound"], over_raw["bound"]) == (">= 0.88", ">= 0.85")
    assert (over_defaults["versus"], over_tuned["versus"]) == ("plain (defaults)", "plain (tuned)")
    assert over_tuned["bound"] == ">= 1.0"
    assert written["about"]["cpu"]["kind"] in {"AMX", "AVX-512 BF16", "AVX-512", "AVX2", "other"}
    assert {"onnxruntime", "openvino"} <= set(written["about"]["versions"])
    assert f"({written['about']['cpu']['kind']})" in table
    # without OpenVINO the reason is in the output, and ONNX Runtime is the limit
    on_openvino = any(shape.startswith("OpenVINO") for shape in over_limit["details"]["limit_candidates"])
    assert on_openvino == ("OpenVINO" not in written["skipped"])


@pytest.mark.slow
def test_an_older_checkout_and_an_import_are_measured(tmp_path: Path) -> None:
    """`--before` serves from another checkout's environment; `--import-products` limits what is imported."""
    catalog = write_products(tmp_path, *(f"product-{number}" for number in range(80)))
    _, written = bench(
        tmp_path / "out",
        *("--scenarios", "before,import,cpu", "--before", ROOT),
        *("--import-catalog", catalog, "--import-products", "64"),
    )
    results = {result["name"]: result for result in written["results"]}
    assert results["throughput"]["versus"] == "ours (before)"
    assert results["import"]["details"]["products"] == [64]
    assert results["import"]["value"]["median"] > 0
    assert results["processor time a call, null model"]["bound"] == "<= 1.4"
    assert results["processor time a call, timed device"]["met"] is None
    assert not set(written["skipped"]) - {"OpenVINO"}


@pytest.mark.slow
def test_what_is_missing_is_skipped_with_the_reason(tmp_path: Path) -> None:
    """Without a catalog or an older checkout the run goes on, and the table names both and why."""
    missing = tmp_path / "none.csv"
    table, written = bench(tmp_path / "out", "--scenarios", "before,import", "--import-catalog", missing)
    assert written["results"] == []
    assert f"Skipped: import: {missing} cannot be read" in table
    assert "Skipped: before: --before names no checkout" in table


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "value"), [("--loads", "1"), ("--loads", "two"), ("--workloads", "import"), ("--messages", "bomb")]
)
def test_what_cannot_be_measured_is_rejected(option: str, value: str) -> None:
    """A load that is none, and names that nobody knows, are errors before anything is started."""
    command = [sys.executable, "-m", "benchmarks", "--model", str(MODELS / "tiny"), option, value]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert f"'{option}'" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"), [("--figures", "--scenarios"), ("--systems", "--peers"), ("--callers", "--concurrency")]
)
def test_old_options_name_the_new_ones(old: str, new: str) -> None:
    """An option of before the first release is an error that names the new one, and nothing is measured."""
    command = [sys.executable, "-m", "benchmarks", "--model", str(MODELS / "tiny"), old, "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert f"The option {old} has been renamed to {new}." in done.stderr
