"""What the writer runs: write operations on a connection, in jobs whose callers wait for the outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from lookalike_server.domain.catalog import IndexChange


@dataclass(frozen=True)
class WriteResult:
    """What an operation returns: a value for its caller, the change for the index, and roughly the bytes written."""

    value: Any
    change: IndexChange
    size: int = 0


WriteOp = Callable[[Any], WriteResult]
"""Writes on a connection; when it raises, nothing of it is stored. It may run more than once."""


class WriteJob:
    """Operations queued together. The future completes with the last of them and holds every outcome, in order."""

    def __init__(self, ops: Sequence[WriteOp]) -> None:
        self.future: Future[Any] = Future()
        self.items = [WriteItem(op, self, position) for position, op in enumerate(ops)]
        self._outcomes: list[Any] = [None] * len(ops)
        self._pending = len(ops)

    def complete(self, position: int, outcome: Any) -> None:
        """Record the outcome of one operation: its value, or the exception it raised."""
        self._outcomes[position] = outcome
        self._pending -= 1
        if not self._pending:
            self._resolve(self._outcomes)

    def _resolve(self, outcomes: list[Any]) -> None:
        self.future.set_result(outcomes)


class SingleWriteJob(WriteJob):
    """One operation, whose value or exception is the future's own."""

    def __init__(self, op: WriteOp) -> None:
        super().__init__([op])

    def _resolve(self, outcomes: list[Any]) -> None:
        (outcome,) = outcomes
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


@dataclass(slots=True, eq=False)
class WriteItem:
    """An operation of a job."""

    op: WriteOp
    job: WriteJob
    position: int
    completed: bool = False

    def complete(self, outcome: Any) -> None:
        """Record the outcome: a value, or the exception raised."""
        self.completed = True
        self.job.complete(self.position, outcome)
