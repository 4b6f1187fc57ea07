"""What the writer runs: write operations on a connection, in jobs whose callers wait for the outcomes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
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


class JoinableOp(ABC):
    """An operation that can run together with others of its class, for less than one after the other."""

    __slots__ = ()

    @property
    @abstractmethod
    def subject(self) -> str:
        """What it writes; two operations with the same subject run one after the other."""

    @staticmethod
    @abstractmethod
    def run(connection: Any, ops: Sequence[Any]) -> WriteResult:
        """Run operations of different subjects; the value is the list of theirs. When it raises, none is stored."""

    def __call__(self, connection: Any) -> WriteResult:
        """Run this one alone."""
        result = self.run(connection, (self,))
        (value,) = result.value
        return WriteResult(value, result.change, result.size)


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
            self.items = []  # which refer to this job: only the garbage collector would free them
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


@dataclass(frozen=True, slots=True)
class Step:
    """Operations that run together, and what they return."""

    items: Sequence[WriteItem]

    def run(self, connection: Any) -> WriteResult:
        """Run them; the value is the list of theirs."""
        first = self.items[0].op
        if isinstance(first, JoinableOp):
            return first.run(connection, [item.op for item in self.items])
        result = first(connection)
        return WriteResult((result.value,), result.change, result.size)


def steps(items: Sequence[WriteItem]) -> Iterator[Step]:
    """Divide operations into those that run together, without changing their order."""
    together: list[WriteItem] = []
    subjects: set[str] = set()
    for item in items:
        op = item.op
        subject = op.subject if isinstance(op, JoinableOp) else None
        joins = together and subject is not None and subject not in subjects and type(op) is type(together[0].op)
        if together and not joins:
            yield Step(together)
            together, subjects = [], set()
        together.append(item)
        if subject is not None:
            subjects.add(subject)
    if together:
        yield Step(together)
