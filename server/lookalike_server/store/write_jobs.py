"""What the writer is given to do: acts on a connection, in jobs whose callers wait for what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from lookalike_server.domain.catalog import IndexChange


@dataclass(frozen=True)
class Written:
    """What an act returns: the result for its caller, what it means for the index, and about how much it wrote."""

    result: Any
    change: IndexChange
    size: int = 0


Act = Callable[[Any], Written]
"""Writes on a connection; may raise, and then nothing of it is done. It may be run more than once."""


class Job:
    """EngineApi that were queued together. Its future is done with the last of them, and then has what became of each."""

    def __init__(self, acts: Sequence[Act]) -> None:
        self.future: Future[Any] = Future()
        self.items = [Item(act, self, position) for position, act in enumerate(acts)]
        self._outcomes: list[Any] = [None] * len(acts)
        self._undecided = len(acts)

    def decide(self, position: int, outcome: Any) -> None:
        """Note what became of an act: its result, or what it raised."""
        self._outcomes[position] = outcome
        self._undecided -= 1
        if not self._undecided:
            self._tell(self._outcomes)

    def _tell(self, outcomes: list[Any]) -> None:
        self.future.set_result(outcomes)


class LoneJob(Job):
    """One act, whose result, or what it raised, is the future's own."""

    def __init__(self, act: Act) -> None:
        super().__init__([act])

    def _tell(self, outcomes: list[Any]) -> None:
        (outcome,) = outcomes
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


@dataclass(slots=True, eq=False)
class Item:
    """An act of a job."""

    act: Act
    job: Job
    position: int
    decided: bool = False

    def decide(self, outcome: Any) -> None:
        """Note what became of it: its result, or what it raised."""
        self.decided = True
        self.job.decide(self.position, outcome)
