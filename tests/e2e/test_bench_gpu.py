"""The benchmark on a GPU, as far as it goes without one: every step of it, on the CPU, in its smallest form."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.gpu.defaults import verdicts
from benchmarks.gpu.profile import IDEAS
from benchmarks.gpu.report import TARGETS
from benchmarks.gpu.ways import CONCURRENT

from support.paths import MODELS, ROOT

pytestmark = pytest.mark.slow

AMPLE = ("--budget", "5000")
"""Seconds that even a busy machine does not need."""


def bench(models: Path, out: Path, *more: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run it over a folder of models; return the process and what it wrote."""
    sources = (ROOT / each for each in ("", "server", "proto/python", "clients/python", "clients/loadtest"))
    paths = os.pathsep.join(map(str, sources))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.gpu", "--models", models, "--out", out, "--provider", "cpu"),
            *(
                "--seconds",
                "0.1",
                "--rounds",
                "1",
                "--rows",
                "250",
                "--generators",
                "1",
                "--frontend-processes",
                "1",
                "--search-rows",
                "1500",
                *more,
            ),
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    written: dict[str, Any] = json.loads((out / "gpu.json").read_text(encoding="utf-8"))
    return done, written


def test_every_step_runs_and_is_written(tmp_path: Path) -> None:
    """Unattended and without a GPU each step measures all its results, judges none, and writes what it measured."""
    shutil.copytree(MODELS / "tiny", tmp_path / "models" / "tiny")
    (tmp_path / "models" / "again").symlink_to("tiny")
    done, written = bench(tmp_path / "models", tmp_path / "out", "--batches", "1,4", "--commit", "abc", *AMPLE)
    assert done.returncode == 0, done.stderr
    steps = written["steps"]
    assert {name: step["skipped"] for name, step in steps.items()} == {name: {} for name in steps}
    assert {name: len(step["results"]) for name, step in steps.items()} == {
        "smoke": 7,  # two strictly, and each setting by itself
        "bare": 0,
        "serve": 7,
        "frontends": 3,
        "search": 8,
    }
    results = [result for step in steps.values() for result in step["results"]]
    assert all(result["met"] is None for result in results)
    ways = steps["bare"]["ways"]
    assert {way["batch"] for way in ways} == {1, 4}
    assert all(rate > 0 for way in ways for rate in way["rates"])
    # each other setting, and each number of batches in flight, is tried on the fastest of the grid
    assert {way["concurrent"] for way in ways if way["stage"] == "best"} == {0, *CONCURRENT}
    assert {frozenset(way["variant"]) for way in ways} >= {frozenset(), frozenset({"graphs", "prefer_nhwc"})}
    assert [profile["scenario"] for profile in steps["serve"]["profiles"]] == [
        "images/s, raw",
        "concurrency 16, search included",
        "concurrency 128, search included",
        "images/s, JPEG",
    ]
    for profile in steps["serve"]["profiles"]:
        assert profile["batch_size"] >= 1
        assert profile["run_ms"] > 0
        assert profile["processor"] > 0
        assert profile["limit"] in IDEAS
        assert profile["gpu"] > 0
    assert steps["serve"]["profiles"][-1]["decode"] > 0
    assert written["about"]["commit"] == "abc"
    assert {"date", "gpu", "cpu", "versions", "onnxruntime", "settings"} <= set(written["about"])
    report = (tmp_path / "out" / "gpu.md").read_text(encoding="utf-8")
    assert report in done.stdout
    assert all(result["name"] in report for result in results)
    assert "A rehearsal on the CPU" in report
    assert report.count("not measured: there was no GPU") == len(TARGETS) + len(verdicts(steps))
    # A result that gets another name would leave its target not measured for ever.
    measured = {result["name"] for result in results}
    assert {name for target in TARGETS if target.step == "serve" for name in target.results} <= measured


def test_a_step_that_fails_does_not_stop_the_next(tmp_path: Path) -> None:
    """Where nothing can be run, each step is begun all the same, and each says why it has nothing."""
    done, written = bench(
        MODELS, tmp_path, "--batches", "1", "--provider", "tensorrt", "--steps", "bare,search", *AMPLE
    )
    assert done.returncode == 1
    skipped = {name: step["skipped"] for name, step in written["steps"].items()}
    assert set(skipped) == {"bare", "search"}
    for reasons in skipped.values():
        assert "this build of ONNX Runtime lacks" in " ".join(reasons.values())
    assert not any(step["results"] for step in written["steps"].values())


def test_a_step_that_crashes_does_not_stop_the_next(tmp_path: Path) -> None:
    """A process that ends without a word is named with its status, and the next step is begun all the same."""
    (tmp_path / "models" / "broken").mkdir(parents=True)
    (tmp_path / "models" / "broken" / "model.json").write_text("{")
    done, written = bench(tmp_path / "models", tmp_path / "out", "--steps", "smoke,bare")
    assert done.returncode == 1
    assert {name: step["skipped"] for name, step in written["steps"].items()} == {
        name: {f"the rest of {name}": "its process ended with status 1"} for name in ("smoke", "bare")
    }


def test_what_does_not_fit_into_the_budget_is_named(tmp_path: Path) -> None:
    """Without time nothing is measured, nothing is guessed, and the report says what was skipped and why."""
    done, written = bench(MODELS, tmp_path, "--batches", "1", "--budget", "0.5")
    skipped = {name: step["skipped"] for name, step in written["steps"].items()}
    assert not any(step["results"] for step in written["steps"].values())
    assert all(skipped.values())
    assert done.returncode == 1
    for step, reasons in skipped.items():
        assert all(f"- {step}: {name}: {reason}" in done.stdout for name, reason in reasons.items())
