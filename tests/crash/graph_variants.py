"""The real server with a change in how it saves graphs: `graph_variants.py NAME[+NAME] serve ...`."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lookalike_server import flushing
from lookalike_server.__main__ import main
from lookalike_server.domain.catalog import SegmentFile
from lookalike_server.index import graph_files, row_files, trusted_files


def graph_variant(*names: str) -> tuple[str, ...]:
    """Return the command of the changed server."""
    assert all(name in _VARIANTS for name in names)
    return (sys.executable, str(Path(__file__)), "+".join(names), "serve")


def _numbered() -> None:
    """No bug: files are named 0.graph, 1.graph, ..., because strace needs the paths before they exist."""
    numbers = itertools.count()
    _name_by(lambda: str(next(numbers)))


def _rows_of_any_size() -> None:
    """No bug: rows are saved beside every graph, though these categories are too small to be worth it."""
    begin = row_files.RowFiles.__init__

    def without_limit(self: Any, files: Any, dim: int, _: int, observer: Any) -> None:
        begin(self, files, dim, 1, observer)

    row_files.RowFiles.__init__ = without_limit  # type: ignore[method-assign, assignment]


def _early_manifest() -> None:
    """A bug: the manifest names files before they are written."""
    write, save = graph_files.GraphFiles.write, graph_files.GraphFiles.save
    late: list[Callable[[], object]] = []

    def only_promise(self: Any, labels: Any, segment: Any) -> SegmentFile:
        promised = _promised(self, labels, segment)
        name = promised.name.removesuffix(".graph")

        def write_it() -> None:
            usual = vars(trusted_files)["uuid"]
            _name_by(lambda: name)
            write(self, labels, segment)
            vars(trusted_files)["uuid"] = usual

        late.append(write_it)
        return promised

    def save_and_write(self: Any, category: str, segments: Sequence[Any]) -> None:
        save(self, category, segments)
        while late:
            late.pop()()

    graph_files.GraphFiles.write = only_promise  # type: ignore[method-assign]
    graph_files.GraphFiles.save = save_and_write  # type: ignore[method-assign]


def _trusted_failures() -> None:
    """A bug: the manifest names a file whose write failed, with the size and sha256 it should have had."""
    write = graph_files.GraphFiles.write

    def write_or_pretend(self: Any, labels: Any, segment: Any) -> SegmentFile:
        try:
            return write(self, labels, segment)
        except OSError:
            return _promised(self, labels, segment)

    graph_files.GraphFiles.write = write_or_pretend  # type: ignore[method-assign]


def _unflushed_graphs() -> None:
    """A bug: files of graphs and their folder are not flushed before the manifest names them."""
    for module in (trusted_files, flushing):
        vars(module)["os"] = SimpleNamespace(**{**vars(os), "fsync": lambda _: None})


def _name_by(name: Callable[[], str]) -> None:
    vars(trusted_files)["uuid"] = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=name()))


def _promised(files: Any, labels: Any, segment: Any) -> SegmentFile:
    """The file of this graph as it should be."""
    whole = io.BytesIO()
    graph_files.encode(whole, labels, segment, vars(files)["_settings"])
    name = f"{vars(trusted_files)['uuid'].uuid4().hex}.graph"
    return SegmentFile(name, len(whole.getvalue()), hashlib.sha256(whole.getvalue()).hexdigest())


_VARIANTS: dict[str, Callable[[], None]] = {
    "numbered": _numbered,
    "rows-of-any-size": _rows_of_any_size,
    "early-manifest": _early_manifest,
    "trusted-failures": _trusted_failures,
    "unflushed-graphs": _unflushed_graphs,
}

if __name__ == "__main__":
    for named in sys.argv.pop(1).split("+"):
        _VARIANTS[named]()
    main()
