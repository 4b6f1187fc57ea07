"""One step within its budget: what it measures is written after each result."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.scenarios.bench import Result


class OutOfTimeError(Exception):
    """The budget is spent."""


class Step:
    """What was measured, and what was not and why.

    Attributes:
        results: What was measured.
        skipped: Why something was not, by its name.
        ways: Each way in which a model was run without a server, with its images a second in every round.
        profiles: Where the time of turns went.
    """

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.results: list[Result] = []
        self.skipped: dict[str, str] = {}
        self.ways: list[dict[str, Any]] = []
        self.profiles: list[Mapping[str, Any]] = []
        self._path = Path(options.out, f"{name}.json")
        self._budget = float(options.budget)
        self._begun = time.monotonic()

    def write(self) -> None:
        """Write what is known so far, whatever comes after."""
        written = {
            "results": [asdict(result) for result in self.results],
            "skipped": self.skipped,
            "ways": self.ways,
            "profiles": self.profiles,
            "seconds": round(time.monotonic() - self._begun, 1),
        }
        self._path.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")

    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self._budget - (time.monotonic() - self._begun)

    def end(self) -> NoReturn:
        """End the run, whatever it is waiting for."""
        raise OutOfTimeError

    def fail(self, name: str, error: Exception) -> None:
        """Note that something was not measured because of an error."""
        self.skipped[name] = f"{type(error).__name__}: {error}"[:1000]

    def log(self, what: str) -> None:
        """Print progress on the standard error."""
        print(f"[{time.monotonic() - self._begun:5.0f} s] {what}", file=sys.stderr, flush=True)

    def measure(self, name: str, seconds: float, measure: Callable[[], Sequence[Result]]) -> None:
        """Measure something that needs so many seconds, if there is time, and record its results."""
        if self.left() < seconds:
            self.skipped[name] = f"{seconds:.0f} s are needed, {max(0.0, self.left()):.0f} s of the budget were left"
            return
        self.log(name)
        try:
            self.results += measure()
        except OutOfTimeError:
            raise
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no base; what follows is measured
            self.fail(name, error)
        self.write()
