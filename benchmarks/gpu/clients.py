"""Several load generators as one: a single process of Python cannot send as much as a card can take."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.environment import Model
from benchmarks.generator import LoadGenerator
from benchmarks.jobs import OK, Job, Outcome, Target


class Clients:
    """Closed loops spread over load generators."""

    def __init__(self, generators: Sequence[LoadGenerator], model: Model) -> None:
        """Take started ones."""
        self._generators = generators
        self._model = model

    def run(self, target: Target, callers: int, seconds: float, **changes: Any) -> Outcome:
        """So many callers in all; every call must be answered, and rightly.

        Raises:
            RuntimeError: When one was not.
        """
        share = [callers // len(self._generators)] * len(self._generators)
        for at in range(callers % len(share)):
            share[at] += 1
        jobs = [
            (
                generator,
                Job(target, self._model.height, self._model.width, self._model.dim, seconds, callers=own, **changes),
            )
            for generator, own in zip(self._generators, share, strict=True)
            if own
        ]
        with ThreadPoolExecutor(len(jobs)) as threads:
            outcomes = list(threads.map(lambda job: job[0].run(job[1]), jobs))
        columns = [np.stack([each.caller, each.sent, each.ended, each.code, each.queue_us]) for each in outcomes]
        fault = next((each.fault for each in outcomes if each.fault), "")
        whole = Outcome.of(np.concatenate(columns, axis=1), max(each.elapsed for each in outcomes), fault)
        if not len(whole.code) or not (whole.code == OK).all():
            raise RuntimeError(f"not every call to {target.address} was answered: {fault}")
        return whole
