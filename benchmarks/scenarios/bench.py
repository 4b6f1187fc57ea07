"""What all scenarios share: the load generator, the bare process, and how long a turn is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.bare_process import ONNX_RUNTIME, OPENVINO, BareProcess, RuntimeShape
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

    @classmethod
    def at_least(
        cls, name: str, versus: str, value: Spread, bound: float | None, details: dict[str, Any] | None = None
    ) -> Result:
        """Return a result whose median must reach the bound; None where nothing is required on this machine."""
        required = "reported" if bound is None else f">= {bound}"
        return cls(name, versus, value, required, None if bound is None else value.median >= bound, details or {})

    @classmethod
    def at_most(
        cls, name: str, versus: str, value: Spread, bound: float | None, details: dict[str, Any] | None = None
    ) -> Result:
        """Return a result whose median must not exceed the bound; None where nothing is required."""
        required = "reported" if bound is None else f"<= {bound}"
        return cls(name, versus, value, required, None if bound is None else value.median <= bound, details or {})


@dataclass(frozen=True, slots=True)
class Limit:
    """The fastest way to run the model without a server.

    Attributes:
        shape: How it is run.
        precision: What it really computes in.
        candidates: The best shapes of every runtime, over one image at a time on ONNX Runtime and every core.
    """

    shape: RuntimeShape
    precision: str
    candidates: dict[str, float]

    def __str__(self) -> str:
        return f"{self.shape}, {self.precision}"


@dataclass(slots=True)
class Bench:
    """The means of measuring, for one model.

    Attributes:
        model: The model.
        load: Sends the load.
        bare: Runs the model without a server.
        precision: What the limit and the tuned peers compute in, a key of `openvino_runtime.HINTS`.
        rounds: Paired rounds of each result.
        seconds: Length of a turn.
        concurrency: Calls under way in a closed loop.
        log: Prints progress.
        limit: The limit, once it was searched for.
    """

    model: Model
    load: LoadGenerator
    bare: BareProcess
    precision: str
    rounds: int
    seconds: float
    concurrency: int
    log: Log
    limit: Limit | None = None

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

    def runtimes(self) -> list[str]:
        """Return the runtimes that can run the model here."""
        return [ONNX_RUNTIME] if self.bare.openvino_unavailable else [ONNX_RUNTIME, OPENVINO]

    def find_limit(self) -> Limit:
        """Search for the limit by paired turns: every shape is tried, and the best two of each runtime once more."""
        if self.limit is None:
            reference = RuntimeShape(ONNX_RUNTIME, 1, 1, threads(), self.precision)
            turn = max(0.2, self.seconds / 2)

            def ratios(shapes: list[RuntimeShape], rounds: int) -> list[tuple[float, RuntimeShape]]:
                found = []
                for shape in shapes:
                    pairs = paired(partial(self.bare.run, shape, turn), partial(self.bare.run, reference, turn), rounds)
                    found.append((pairs.spread(lambda a, b: a.throughput / b.throughput).median, shape))
                return sorted(found, key=lambda each: each[0], reverse=True)

            finalists = []
            for name in self.runtimes():
                finalists += [shape for _, shape in ratios(_shapes(name, threads(), self.precision), 2)[:2]]
            ranked = ratios(finalists, max(3, self.rounds // 2))
            shape = ranked[0][1]
            precision = self.bare.run(shape, turn).precision
            self.limit = Limit(shape, precision, {str(each): round(ratio, 3) for ratio, each in ranked})
            self.log(f"the limit: {self.limit}; over one image at a time on every core: {self.limit.candidates}")
        return self.limit


def _shapes(name: str, cores: int, precision: str) -> list[RuntimeShape]:
    """Return every batch with one wide stream, narrow ones side by side, and two wide ones that overlap."""
    splits = {(1, cores), (cores, 1)} | {(2**at, cores >> at) for at in range(1, cores.bit_length())}
    if name == ONNX_RUNTIME:
        splits.add((2, cores))  # OpenVINO's streams share the threads out
    return [
        RuntimeShape(name, batch, streams, each, precision)
        for streams, each in sorted(splits)
        for batch in (1, 2, 4, 8, 16)
    ]
