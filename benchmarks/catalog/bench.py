"""What all figures of the catalog share: sizes, workers, and where what was found is put."""

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
from benchmarks.figures.bench import Figure, Say
from benchmarks.processes import StartError
from benchmarks.rounds import Spread

OURS = "lookalike"


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of one system in the table side by side: a value, a remark, or both."""

    value: Spread | None = None
    remark: str = ""


@dataclass(slots=True)
class CatalogBench:
    """The means of measuring, and what they have found so far.

    `scratch` is removed after the run; `cache` stays, for what is slow to make and always the same.
    """

    sizes: Sizes
    scratch: Path
    cache: Path
    model: Path
    caller: Worker
    writer: Worker
    alone: Worker
    say: Say
    engines: dict[str, Worker] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    beside: dict[str, dict[str, Cell]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def add(
        self,
        name: str,
        versus: str,
        value: Spread,
        bound: str = "",
        holds: Callable[[float], bool] | None = None,
        **details: Any,
    ) -> Figure:
        """Put down a figure; `holds` judges its median."""
        figure = Figure(name, versus, value, bound, None if holds is None else holds(value.median), details)
        self.figures.append(figure)
        self.say(f"{name}: {value}{f', demanded {bound}' if bound else ''}")
        return figure

    def put(self, row: str, system: str, cell: Cell) -> None:
        """Put down a figure of the table side by side."""
        self.beside.setdefault(row, {})[system] = cell

    def rested(self, when: str, found: Rest) -> None:
        """Put down how long the server was waited for, and say so where that was not enough."""
        self.notes[f"rest {when}"] = {"rested": found.rested, "seconds": found.seconds, "kinds": dict(found.kinds)}
        if not found.rested:
            self.skipped[f"rest {when}"] = (
                f"the server was still at work after {found.seconds:.0f} s; what follows was measured beside that"
            )

    @contextmanager
    def or_skip(self, what: str) -> Iterator[None]:
        """A figure that cannot be measured costs no other one."""
        try:
            yield
        except (TaskError, StartError, grpc.RpcError, OSError, ValueError) as error:
            # Not the whole of a gRPC error: it prints itself over many lines.
            reason = error.details() if isinstance(error, grpc.Call) else error
            self.skipped[what] = f"not measured: {reason}"
            self.say(f"{what}: not measured: {reason}")


def at_most(limit: float) -> Callable[[float], bool]:
    """Judges a figure that should be small."""
    return lambda value: value <= limit


def at_least(limit: float) -> Callable[[float], bool]:
    """Judges a figure that should be large."""
    return lambda value: value >= limit
