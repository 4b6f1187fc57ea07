"""The command that gives the space of deleted products back: how small a file gets, and what stays in it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lookalike_server.__main__ import main
from lookalike_server.domain.catalog import EmbeddedProduct
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.store.catalog_store import Store
from lookalike_server.store.maintenance import verify
from lookalike_server.store.sqlite import FILE
from lookalike_server.store.vacuum import STEP_PAGES, vacuum
from support.sqlite_pages import PAGE, TABLES, leaves, zero_page
from support.store_fixtures import MODEL, embedded, ignore, opened, product, put, rows

WIDE = replace(MODEL, dim=1024)
COUNT = 3000
EMPTY_BYTES = 200_000
"""More than a catalog without products takes."""


def fill(store: Store) -> None:
    """Store 3,000 products with 1,024 dimensions each, which is more than three steps of the command."""
    drawn = np.random.default_rng(0).normal(size=(COUNT, 1, WIDE.dim)).astype(np.float32)
    store.upsert_all(
        [(EmbeddedProduct(product(f"p{number}"), vectors), None) for number, vectors in enumerate(drawn)]
    ).result(60)


def delete(store: Store, kept: int) -> None:
    """Delete all products but the last ones, which are at the end of the file."""
    for number in range(COUNT - kept - 1):
        store.delete(f"p{number}")
    store.delete(f"p{COUNT - kept - 1}").result(60)


def size(folder: Path) -> int:
    """Return the bytes of the file and of what SQLite has beside it."""
    return sum(path.stat().st_size for path in folder.glob(f"{FILE}*"))


class StoppedHereError(Exception):
    """The user has stopped the command."""


@pytest.mark.parametrize("kept", [0, 100])
def test_a_catalog_shrinks(tmp_path: Path, kept: int) -> None:
    """The file of a catalog with few products is small again, and has the same rows, labels and vectors as before."""
    with opened(tmp_path, WIDE) as store:
        fill(store)
        delete(store, kept)
        expected = rows(store)
    before = size(tmp_path)
    assert before > COUNT * 4 * WIDE.dim
    steps: list[tuple[int, int]] = []
    result = vacuum(tmp_path, lambda done, total: steps.append((done, total)))
    assert result == (before, size(tmp_path))
    assert result[1] < EMPTY_BYTES + kept * 3 * 4 * WIDE.dim
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert len(steps) > 3
    assert (steps[0][0], steps[-1][0]) == (0, steps[-1][1])
    assert list(verify(tmp_path)) == []
    with opened(tmp_path, WIDE) as store:
        assert rows(store) == expected
        put_wide(store)
        assert len(rows(store)) == kept + 1


def put_wide(store: Store) -> None:
    """Store one more product."""
    store.upsert(EmbeddedProduct(product("new"), np.ones((1, WIDE.dim), np.float32))).result(60)


def test_stopped_and_run_again(tmp_path: Path) -> None:
    """A command that is stopped after a step has given that step's space back; the next one gives back the rest."""
    with opened(tmp_path, WIDE) as store:
        fill(store)
        delete(store, 10)
        expected = rows(store)

    def stop(done: int, total: int) -> None:
        assert total > 2 * STEP_PAGES * PAGE
        if done > 0:
            raise StoppedHereError

    with pytest.raises(StoppedHereError):
        vacuum(tmp_path, stop)
    assert list(verify(tmp_path)) == []
    totals: list[int] = []
    vacuum(tmp_path, lambda _, total: totals.append(total))
    free = COUNT * 4 * WIDE.dim
    assert 0 < totals[0] < free
    assert list(verify(tmp_path)) == []
    with opened(tmp_path, WIDE) as store:
        assert rows(store) == expected


def test_a_catalog_of_an_earlier_version(tmp_path: Path) -> None:
    """A file that cannot give pages back is rewritten once, with everything in it, and can from then on."""
    with opened(tmp_path, WIDE) as store:
        fill(store)
        delete(store, 5)
        expected = rows(store)
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as file:
        file.execute("PRAGMA journal_mode = DELETE")
        file.execute("PRAGMA auto_vacuum = NONE")
        file.execute("CREATE TABLE more (data BLOB)")
        file.execute("VACUUM")
        file.executemany("INSERT INTO more VALUES (zeroblob(4000))", [()] * 500)
        file.execute("DROP TABLE more")
    before = size(tmp_path)
    vacuum(tmp_path, lambda _, __: None)
    assert size(tmp_path) < before - 1_000_000
    with closing(sqlite3.connect(tmp_path / FILE)) as file:
        assert file.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert file.execute("PRAGMA freelist_count").fetchone() == (0,)
    assert list(verify(tmp_path)) == []
    with opened(tmp_path, WIDE) as store:
        assert rows(store) == expected


def test_what_cannot_be_shrunk(tmp_path: Path) -> None:
    """A catalog in use, none, a lost one, another program's and a damaged one are rejected by words."""

    def why(folder: Path) -> str:
        with pytest.raises(LookalikeError) as caught:
            vacuum(folder, lambda _, __: None)
        return caught.value.message

    with opened(tmp_path / "used") as store:
        put(store, "p1")
        assert "another server is using" in why(tmp_path / "used")
        put(store, "p2")
    assert "does not exist" in why(tmp_path / "none")
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / FILE).touch()
    (tmp_path / "lost" / f"{FILE}-wal").write_bytes(b"left")
    assert "restore a backup" in why(tmp_path / "lost")
    (tmp_path / "other").mkdir()
    with closing(sqlite3.connect(tmp_path / "other" / FILE)) as file:
        file.execute("CREATE TABLE mine (x)")
    before = (tmp_path / "other" / FILE).read_bytes()
    assert "is not a catalog of this version" in why(tmp_path / "other")
    assert (tmp_path / "other" / FILE).read_bytes() == before
    with opened(tmp_path / "damaged") as store:
        store.upsert_all([(embedded(f"p{number}", float(number)), None) for number in range(600)]).result(60)
        for number in range(0, 600, 2):
            store.delete(f"p{number}").result(60)
    for tree in TABLES.values():
        for page in leaves(tmp_path / "damaged", tree):
            zero_page(tmp_path / "damaged", page)
    zero_page(tmp_path / "damaged", 2)  # which says where the others are referred to
    assert "`lookalike-server verify`" in why(tmp_path / "damaged")
    with pytest.raises(LookalikeError):
        Store(tmp_path / "lost", MODEL, ignore)


def test_the_command(tmp_path: Path) -> None:
    """The command shows its progress in tens of percent, and the sizes before and after in one line."""
    with opened(tmp_path, WIDE) as store:
        fill(store)
        delete(store, 0)
    result = CliRunner().invoke(main, ["vacuum", "--data-dir", str(tmp_path)])
    assert result.exit_code == 0
    *progress, last = result.output.splitlines()
    assert progress[0].startswith("0 % of ")
    assert progress[-1].startswith("100 % of ")
    assert 3 < len(progress) <= 11
    assert last.startswith(f"{tmp_path}: ")
    assert last.endswith(" MB now")
    again = CliRunner().invoke(main, ["vacuum", "--data-dir", str(tmp_path)])
    assert again.exit_code == 0
    assert "nothing to give back" in again.output
