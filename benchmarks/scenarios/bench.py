"""What all figures share: the load generator, the bare session, and how long a turn is."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from benchmarks.environment import Model, threads
from benchmarks.generator import BareSession, LoadGenerator, Shape
from benchmarks.jobs import OK, WRONG_ANSWER, Job, Outcome, Target
from benchmarks.rounds import Spread, paired

Say = Callable[[str], None]
Image = Literal["raw", "jpeg"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure and its judgment.

    Attributes:
        name: Which figure.
        versus: What it is measured against.
        value: The figure over the rounds.
        bound: What it should be.
        met: Whether its median is; None where nothing is demanded.
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
    """The means of measuring, for one model."""

    model: Model
    load: LoadGenerator
    bare: BareSession
    rounds: int
    seconds: float
    callers: int
    say: Say
    limit: Shape | None = None
    """The bare session's best shape, once it was looked for."""

    def job(self, target: Target, **changes: Any) -> Job:
        """A closed loop of all callers, unless the changes say otherwise."""
        usual: dict[str, Any] = {"seconds": self.seconds, "callers": self.callers}
        return Job(target, self.model.height, self.model.width, self.model.dim, **usual | changes)

    def run(self, target: Target, **changes: Any) -> Outcome:
        """Do such a job; every answer must be right, though not every call must be answered."""
        outcome = self.load.run(self.job(target, **changes))
        if (outcome.code == WRONG_ANSWER).any():
            raise RuntimeError(f"a wrong answer from {target}: {outcome.fault}")
        return outcome

    def closed(self, target: Target, image: Image = "raw", stock: int = 0) -> Outcome:
        """A closed loop of all callers that must all be answered."""
        limits = {"limit": stock} if image == "jpeg" else {}
        outcome = self.run(target, image=image, **limits)
        if not (outcome.code == OK).all():
            raise RuntimeError(f"{target} did not answer every call: {outcome.fault}")
        return outcome

    def warm(self, target: Target) -> Outcome:
        """A first closed loop, of which only the rate is of use: for how much to prepare."""
        return self.run(target, seconds=max(1.0, self.seconds / 2))

    def stock(self, target: Target) -> int:
        """How many JPEG files a turn may need, with something to spare."""
        return math.ceil(self.warm(target).throughput * self.seconds * 1.5) + 2 * self.callers

    def best_shape(self) -> Shape:
        """The bare session's best shape by paired turns: all are tried, and the best three are tried again."""
        if self.limit is None:
            reference = Shape(1, 1, threads())
            turn = max(0.5, self.seconds / 2)

            def ratios(shapes: list[Shape], rounds: int) -> list[tuple[float, Shape]]:
                found = []
                for shape in shapes:
                    pairs = paired(partial(self.bare.run, shape, turn), partial(self.bare.run, reference, turn), rounds)
                    found.append((pairs.spread(lambda a, b: a.throughput / b.throughput).median, shape))
                return sorted(found, key=lambda each: each[0], reverse=True)

            first = ratios(_shapes(threads()), 2)
            best = ratios([shape for _, shape in first[:3]], max(3, self.rounds // 2))
            self.limit = best[0][1]
            self.say(f"limit: {self.limit}, {best[0][0]:.2f} x one image at a time on every core")
        return self.limit


Start = Callable[[], AbstractContextManager[Target]]


def _shapes(cores: int) -> list[Shape]:
    """Every batch with one wide session, narrow ones side by side, and two wide ones that overlap."""
    splits = {(1, cores), (2, cores), (cores, 1)} | {(2**at, cores >> at) for at in range(1, cores.bit_length())}
    return [Shape(batch, *split) for split in sorted(splits) for batch in (1, 2, 4, 8, 16) if split[1] > 0]
