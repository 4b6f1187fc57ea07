"""The options of the benchmarks."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.paths import MODELS, ROOT


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
