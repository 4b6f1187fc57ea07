"""Runs of the benchmarks in their shortest form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.paths import MODELS, ROOT


def bench(out: Path, *options: str | Path) -> tuple[str, dict[str, Any]]:
    """Measure the tiny model in its shortest form; return the table and what was written."""
    small = ("--rounds", "1", "--seconds", "0.2", "--concurrency", "2", "--peers", "")
    command = [sys.executable, "-m", "benchmarks", "--model", MODELS / "tiny", "--out", out, *small, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    (file,) = out.glob("*.json")
    return done.stdout, json.loads(file.read_text(encoding="utf-8"))
