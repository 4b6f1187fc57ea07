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

from support.paths import MODELS, ROOT

pytestmark = pytest.mark.slow


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
                "2",
                "--frontend-processes",
                "1",
                *more,
            ),
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    written: dict[str, Any] = json.loads((out / "gpu.json").read_text(encoding="utf-8"))
    return done, written


def test_every_step_runs_and_is_written(tmp_path: Path) -> None:
    """Unattended and without a GPU each step measures all its results, judges none, and writes what it measured."""
    shutil.copytree(MODELS / "tiny", tmp_path / "models" / "tiny")
    (tmp_path / "models" / "again").symlink_to("tiny")
    done, written = bench(tmp_path / "models", tmp_path / "out", "--batches", "1,4", "--commit", "abc")
    assert done.returncode == 0, done.stderr
    steps = written["steps"]
    assert {name: step["skipped"] for name, step in steps.items()} == {name: {} for name in steps}
    assert {(each["model"], each["batch"]) for each in steps["bare"]["bare"]} == {("tiny", 1), ("tiny", 4)}
    assert {name: len(step["results"]) for name, step in steps.items()} == {
        "smoke": 1,
        "bare": 0,
        "serve": 7,
        "frontends": 5,
    }
    results = [result for step in steps.values() for result in step["results"]]
    assert all(result["met"] is None for result in results)
    assert all(result["name"] in done.stdout for result in results)
    assert written["about"]["commit"] == "abc"
    assert {"gpu", "cpu", "versions", "onnxruntime", "settings"} <= set(written["about"])


def test_a_step_that_fails_does_not_stop_the_next(tmp_path: Path) -> None:
    """Without a result of bare runs the server is measured with its defaults, and both are said."""
    done, written = bench(
        MODELS, tmp_path, "--batches", "1", "--provider", "tensorrt", "--steps", "smoke,bare", "--budget", "120"
    )
    assert done.returncode == 1
    skipped = {**written["steps"]["smoke"]["skipped"], **written["steps"]["bare"]["skipped"]}
    assert any(name.startswith("smoke tiny") and "tensorrt" in reason for name, reason in skipped.items())
    assert any(name.startswith("bare tiny") and "tensorrt" in reason for name, reason in skipped.items())


def test_what_does_not_fit_into_the_budget_is_named(tmp_path: Path) -> None:
    """Without time nothing is measured, nothing is guessed, and the table says what was skipped and why."""
    done, written = bench(MODELS, tmp_path, "--batches", "1", "--budget", "2")
    skipped = {name: why for step in written["steps"].values() for name, why in step["skipped"].items()}
    assert not any(step["results"] for step in written["steps"].values())
    assert skipped
    assert done.returncode == 1
    assert all(f"Skipped: {name}: {reason}" in done.stdout for name, reason in skipped.items())
