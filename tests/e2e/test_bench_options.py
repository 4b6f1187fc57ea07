"""The scenarios of a whole run of the benchmarks."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.benchmark_runs import bench
from support.catalogs import write_products
from support.paths import ROOT


@pytest.mark.nightly
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


@pytest.mark.nightly
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
def test_the_cost_of_metrics_is_measured(tmp_path: Path) -> None:
    """`metrics` compares servers with and without metrics: calls a second with a bound each, and processor time."""
    _, written = bench(tmp_path, "--scenarios", "metrics")
    results = {result["name"]: result for result in written["results"]}
    for model, bound in (("this model", ">= 0.99"), ("null model", ">= 0.97")):
        assert results[f"calls a second with metrics, {model}"]["bound"] == bound
        cost = results[f"processor time a call with metrics, {model}"]
        assert cost["value"]["median"] > 0
        assert cost["met"] is None


@pytest.mark.slow
def test_what_is_missing_is_skipped_with_the_reason(tmp_path: Path) -> None:
    """Without a catalog or an older checkout the run goes on, and the table names both and why."""
    missing = tmp_path / "none.csv"
    table, written = bench(tmp_path / "out", "--scenarios", "before,import", "--import-catalog", missing)
    assert written["results"] == []
    assert f"Skipped: import: {missing} cannot be read" in table
    assert "Skipped: before: --before names no checkout" in table
