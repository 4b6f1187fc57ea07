"""What all scenarios share: the load generator, the bare session, and how long a turn is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.bare_session import BareSession, SessionShape
from benchmarks.environment import Model, threads
from benchmarks.load import ImageForm, LoadGenerator, Outcome, model_load
from benchmarks.rounds import Spread, paired
from benchmarks.servers.base import Target

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """One result and its judgment.

    Attributes:
        name: What was measured.
        versus: What it was measured against.
        value: The value over the rounds.
        bound: What it should be.
        met: Whether its median is; None where nothing is required.
        details: What it was made of.
    """

    name: str
    versus: str
    value: Spread
    bound: str
    met: bool | None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Bench:
    """The means of measuring, for one model.

    Attributes:
        model: The model.
        load: Sends the load.
        bare: Runs the model without a server.
        rounds: Paired rounds of each result.
        seconds: Length of a turn.
        concurrency: Calls under way in a closed loop.
        log: Prints progress.
        best: The bare session's best shape, once it was searched for.
    """

    model: Model
    load: LoadGenerator
    bare: BareSession
    rounds: int
    seconds: float
    concurrency: int
    log: Log
    best: SessionShape | None = None

    def run(self, target: Target, form: ImageForm = "raw", **changes: Any) -> Outcome:
        """Run a closed loop, unless the changes (fields of `Phase`) say otherwise; no answer may be wrong.

        Raises:
            LoadError: One was.
        """
        usual: dict[str, Any] = {"seconds": self.seconds}
        if "rate" not in changes:
            usual["concurrency"] = self.concurrency
        return self.load.run(model_load(target, self.model, form), **usual | changes).check(all_answered=False)

    def closed(self, target: Target, form: ImageForm = "raw") -> Outcome:
        """Run a closed loop whose calls must all be answered.

        Raises:
            LoadError: One was not.
        """
        return self.run(target, form).check(all_answered=True)

    def warm(self, target: Target) -> Outcome:
        """Run a first closed loop, of which only the rate is of use: for how much to prepare."""
        return self.run(target, seconds=max(1.0, self.seconds / 2))

    def best_shape(self) -> SessionShape:
        """Return the bare session's best shape by paired turns: all are tried, and the best three once more."""
        if self.best is None:
            reference = SessionShape(1, 1, threads())
            turn = max(0.5, self.seconds / 2)

            def ratios(shapes: list[SessionShape], rounds: int) -> list[tuple[float, SessionShape]]:
                found = []
                for shape in shapes:
                    pairs = paired(partial(self.bare.run, shape, turn), partial(self.bare.run, reference, turn), rounds)
                    found.append((pairs.spread(lambda a, b: a.throughput / b.throughput).median, shape))
                return sorted(found, key=lambda each: each[0], reverse=True)

            first = ratios(_shapes(threads()), 2)
            best = ratios([shape for _, shape in first[:3]], max(3, self.rounds // 2))
            self.best = best[0][1]
            self.log(f"bare ONNX Runtime: {self.best}, {best[0][0]:.2f} x one image at a time on every core")
        return self.best


def _shapes(cores: int) -> list[SessionShape]:
    """Return every batch with one wide session, narrow ones side by side, and two wide ones that overlap."""
    splits = {(1, cores), (2, cores), (cores, 1)} | {(2**at, cores >> at) for at in range(1, cores.bit_length())}
    return [SessionShape(batch, *split) for split in sorted(splits) for batch in (1, 2, 4, 8, 16) if split[1] > 0]
