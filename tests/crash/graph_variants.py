"""The real server with a change in how it keeps graphs on disk: `graph_variants.py NAME[+NAME] serve ...`."""

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

from lookalike_server.__main__ import main
from lookalike_server.domain.catalog import SegmentFile
from lookalike_server.index import graph_files


def graph_variant(*names: str) -> tuple[str, ...]:
    """The command of the server that is changed so."""
    assert all(name in _VARIANTS for name in names)
    return (sys.executable, str(Path(__file__)), "+".join(names), "serve")


def _numbered() -> None:
    """No bug: files are named 0.npz, 1.npz, ..., for strace has to be told of paths before they are made."""
    numbers = itertools.count()
    _name_by(lambda: str(next(numbers)))


def _early_manifest() -> None:
    """A bug: the manifest names files before they are written."""
    write, keep = graph_files.GraphFiles._write, graph_files.GraphFiles.keep
    late: list[Callable[[], object]] = []

    def only_promise(self: Any, labels: Any, graph: Any) -> SegmentFile:
        promised = _promised(labels, graph)
        name = promised.name.removesuffix(".npz")

        def write_it() -> None:
            usual = vars(graph_files)["uuid"]
            _name_by(lambda: name)
            write(self, labels, graph)
            vars(graph_files)["uuid"] = usual

        late.append(write_it)
        return promised

    def keep_and_write(self: Any, category: str, graphs: Sequence[Any]) -> None:
        keep(self, category, graphs)
        while late:
            late.pop()()

    graph_files.GraphFiles._write = only_promise  # type: ignore[method-assign]
    graph_files.GraphFiles.keep = keep_and_write  # type: ignore[method-assign]


def _vouching() -> None:
    """A bug: a file whose writing failed is vouched for all the same, by what it should have been."""
    write = graph_files.GraphFiles._write

    def write_or_pretend(self: Any, labels: Any, graph: Any) -> SegmentFile:
        try:
            return write(self, labels, graph)
        except OSError:
            return _promised(labels, graph)

    graph_files.GraphFiles._write = write_or_pretend  # type: ignore[method-assign]


def _unflushed_graphs() -> None:
    """A bug: files of graphs and their folder are not flushed before the manifest names them."""
    vars(graph_files)["os"] = SimpleNamespace(**{**vars(os), "fsync": lambda _: None})


def _name_by(name: Callable[[], str]) -> None:
    vars(graph_files)["uuid"] = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=name()))


def _promised(labels: Any, graph: Any) -> SegmentFile:
    """What a file of this graph should be."""
    whole = io.BytesIO()
    graph_files._encode(whole, labels, graph)
    name = f"{vars(graph_files)['uuid'].uuid4().hex}.npz"
    return SegmentFile(name, len(whole.getvalue()), hashlib.sha256(whole.getvalue()).hexdigest())


_VARIANTS: dict[str, Callable[[], None]] = {
    "numbered": _numbered,
    "early-manifest": _early_manifest,
    "vouching": _vouching,
    "unflushed-graphs": _unflushed_graphs,
}

if __name__ == "__main__":
    for named in sys.argv.pop(1).split("+"):
        _VARIANTS[named]()
    main()
