"""What all parts of the catalog scenario share: sizes, processes, and the results so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from benchmarks.catalog.json_pipe import TaskError, Worker
from benchmarks.catalog.our_server import Rest
from benchmarks.catalog.sizes import Sizes
from benchmarks.load import LoadError, LoadGenerator
from benchmarks.processes import StartError
from benchmarks.rounds import Spread
from benchmarks.scenarios.bench import Log, Result

OURS = "lookalike"


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of one index in the side-by-side table: a value, a remark, or both."""

    value: Spread | None = None
    remark: str = ""


@dataclass(slots=True)
class CatalogBench:
    """The means of measuring, and what they have found so far.

    Attributes:
        sizes: How much is measured.
        scratch: A folder that is removed after the run.
        cache: A folder that stays, for what is slow to make and always the same.
        model: A model that does nothing.
        load: Sends the load that is measured.
        background: Sends load beside it.
        sqlite_alone: The process of SQLite alone.
        log: Prints progress.
        indexes: The processes of the other indexes, by name.
        results: What was measured.
        side_by_side: The values of all indexes, by row of the table and name.
        skipped: What was not measured, and why.
        ef: Candidates that a search of the server's graphs weighs by default, and the other indexes with it.
        notes: What a reader may want to know besides.
    """

    sizes: Sizes
    scratch: Path
    cache: Path
    model: Path
    load: LoadGenerator
    background: LoadGenerator
    sqlite_alone: Worker
    log: Log
    indexes: dict[str, Worker] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    side_by_side: dict[str, dict[str, Cell]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    ef: int = 64

    def add(
        self,
        name: str,
        versus: str,
        value: Spread,
        bound: str = "",
        holds: Callable[[float], bool] | None = None,
        **details: Any,
    ) -> Result:
        """Record a result; `holds` judges its median."""
        result = Result(name, versus, value, bound, None if holds is None else holds(value.median), details)
        self.results.append(result)
        self.log(f"{name}: {value}{f', required {bound}' if bound else ''}")
        return result

    def put(self, row: str, index: str, cell: Cell) -> None:
        """Record a value of the side-by-side table."""
        self.side_by_side.setdefault(row, {})[index] = cell

    def rested(self, when: str, found: Rest) -> None:
        """Record how long the server was waited for, and whether that was enough."""
        self.notes[f"rest {when}"] = {"rested": found.rested, "seconds": found.seconds, "kinds": dict(found.kinds)}
        if not found.rested:
            self.skipped[f"rest {when}"] = (
                f"the server was still busy after {found.seconds:.0f} s; what follows was measured beside that"
            )

    @contextmanager
    def or_skip(self, what: str) -> Iterator[None]:
        """Record as skipped what cannot be measured in this block, and go on."""
        try:
            yield
        except (TaskError, StartError, LoadError, grpc.RpcError, OSError, ValueError) as error:
            # not the whole gRPC error, which prints itself over many lines
            reason = error.details() if isinstance(error, grpc.Call) else error
            self.skipped[what] = f"not measured: {reason}"
            self.log(f"{what}: not measured: {reason}")


def at_most(limit: float) -> Callable[[float], bool]:
    """Return a judge of a value that should be small."""
    return lambda value: value <= limit


def at_least(limit: float) -> Callable[[float], bool]:
    """Return a judge of a value that should be large."""
    return lambda value: value >= limit
