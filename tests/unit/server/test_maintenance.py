"""Backup and verification of a catalog that is in use."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lookalike_server.domain.catalog import EmbeddedProduct, StoredImage
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.store.maintenance import backup, verify
from lookalike_server.store.quick_check import interrupted_after
from lookalike_server.store.sqlite import FILE, SqliteError, connect
from support.store_fixtures import opened, product, put, rows, vectors

IMAGE = StoredImage("2689367b205c16ce32ed4200942b8b8b1e262dfc70d9bc9fbc77c49699a4f1df", "image/png", b"ok")


def test_backup_of_a_catalog_in_use(tmp_path: Path) -> None:
    """A backup of an open catalog contains everything that was just written, and can be served."""
    with opened(tmp_path / "data") as store:
        for number in range(50):
            put(store, f"p{number}", float(number), color="red")
        assert backup(tmp_path / "data", tmp_path / "copy.sqlite") == 50
        put(store, "later", 1.0)
        expected = rows(store)[:-1]
    (tmp_path / "restored").mkdir()
    (tmp_path / "copy.sqlite").rename(tmp_path / "restored" / FILE)
    with opened(tmp_path / "restored") as store:
        assert rows(store) == expected
    assert list(verify(tmp_path / "restored")) == []


def test_backups_that_fail(tmp_path: Path) -> None:
    """A missing catalog, an existing file and a missing folder are errors, and nothing is left behind."""

    def failure(folder: str, target: str) -> str:
        with pytest.raises(LookalikeError) as caught:
            backup(tmp_path / folder, tmp_path / target)
        assert caught.value.code is Code.FAILED_PRECONDITION
        return caught.value.message

    assert "does not exist" in failure("none", "copy.sqlite")
    with opened(tmp_path / "data"):
        (tmp_path / "existing").write_text("mine")
        assert "already exists" in failure("data", "existing")
        assert "cannot copy" in failure("data", "no folder/copy.sqlite")
    assert (tmp_path / "existing").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "existing"]


FAULTS: dict[str, tuple[str, str]] = {
    "short embedding": ("UPDATE embeddings SET vector = x'00000000' WHERE label = 2", "has 4 bytes"),
    "NaN": ("UPDATE embeddings SET vector = CAST(x'0000c07f' || substr(vector, 5) AS BLOB) WHERE label = 2", "NaN"),
    "no embedding": ("DELETE FROM embeddings WHERE label = 2", "has no embedding"),
    "no product": ("PRAGMA foreign_keys = 0; DELETE FROM products WHERE id = 'p1'", "does not exist"),
    "attributes": ("UPDATE products SET attributes = '[1]' WHERE id = 'p1'", "attributes of 'p1'"),
    "image": ("UPDATE images SET data = x'00'", "is damaged"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_verify_finds(tmp_path: Path, name: str) -> None:
    """Each kind of damage inside the tables is described by exactly one sentence."""
    with opened(tmp_path) as store:
        store.upsert(EmbeddedProduct(product("p0"), vectors(1.0), (IMAGE,))).result(timeout=60)
        put(store, "p1")
    assert list(verify(tmp_path)) == []
    statement, expected = FAULTS[name]
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as file:
        file.executescript(statement)
    (problem,) = verify(tmp_path)
    assert expected in problem


def test_verify_finds_a_broken_page(tmp_path: Path) -> None:
    """An overwritten page of the file is found, and raises no error."""
    with opened(tmp_path) as store:
        for number in range(200):
            put(store, f"p{number}")
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    with (tmp_path / FILE).open("r+b") as broken:
        broken.seek(4096 * 6)
        broken.write(b"\xff" * 4096)
    assert list(verify(tmp_path))


def test_a_quick_verify_of_a_catalog_in_use(tmp_path: Path) -> None:
    """A healthy catalog has no problems, also while it is written; a missing one and a newer one are rejected."""
    with opened(tmp_path / "data") as store:
        assert list(verify(tmp_path / "data", quick=True)) == []
        put(store, "p1")
        assert list(verify(tmp_path / "data", quick=True)) == []
    with pytest.raises(LookalikeError, match="does not exist"):
        list(verify(tmp_path / "none", quick=True))
    with closing(sqlite3.connect(tmp_path / "data" / FILE)) as file:
        file.execute("PRAGMA user_version = 99")
    with pytest.raises(LookalikeError, match="newer version"):
        list(verify(tmp_path / "data", quick=True))


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("DELETE FROM meta", "does not say which model"),
        ("UPDATE meta SET value = 'short' WHERE key = 'model_digest'", "does not say which model"),
        ("UPDATE embeddings SET vector = x'000000'", "has 3 bytes"),
        ("INSERT INTO segments (category, file, size, sha256) VALUES ('Men', 'a.graph', 9, 'x')", "has 4 bytes, not 9"),
    ],
)
def test_a_quick_verify_finds(tmp_path: Path, statement: str, expected: str) -> None:
    """A model that is not named, a vector that is none and an index file of another size are one sentence each."""
    with opened(tmp_path) as store:
        put(store, "p1")
    (tmp_path / "index").mkdir(exist_ok=True)
    (tmp_path / "index" / "a.graph").write_bytes(b"four")
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as file:
        file.executescript(statement)
    (problem,) = verify(tmp_path, quick=True)
    assert expected in problem


def test_a_quick_verify_ignores_a_missing_index_file(tmp_path: Path) -> None:
    """A server replaces index files while it runs, so one that is gone is no problem."""
    with opened(tmp_path) as store:
        put(store, "p1")
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as file:
        file.execute("INSERT INTO segments (category, file, size, sha256) VALUES ('Men', 'gone.graph', 9, 'x')")
    assert list(verify(tmp_path, quick=True)) == []


def test_a_quick_verify_leaves_out_what_reads_everything(tmp_path: Path) -> None:
    """A bit of a vector that flipped is found by the whole check, and not by the quick one."""
    with opened(tmp_path) as store:
        put(store, "p1")
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as file:
        file.execute("UPDATE embeddings SET vector = CAST(x'01' || substr(vector, 2) AS BLOB)")
    assert list(verify(tmp_path, quick=True)) == []
    assert list(verify(tmp_path))


def test_a_quick_verify_finds_a_broken_page_while_it_has_time(tmp_path: Path) -> None:
    """An overwritten page is found within the time that SQLite's check has, and without any time none is read."""
    with opened(tmp_path) as store:
        for number in range(200):
            put(store, f"p{number}")
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        # By any index, because which page has which table is up to SQLite.
        (page,) = file.execute("SELECT rootpage FROM sqlite_master WHERE name = 'products_by_category'").fetchone()
    with (tmp_path / FILE).open("r+b") as broken:
        broken.seek(4096 * (page - 1))
        broken.write(b"\xff" * 4096)
    assert list(verify(tmp_path, quick=True, quick_seconds=60.0))
    assert list(verify(tmp_path, quick=True, quick_seconds=0.0)) == []


def test_a_query_ends_when_its_time_is_up(tmp_path: Path) -> None:
    """What would run forever is interrupted, and its connection works afterwards."""
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with closing(connect(tmp_path / "a.sqlite", "rwc")) as connection:
        with pytest.raises(SqliteError, match="interrupted"), interrupted_after(connection, 0.01) as expired:
            connection.execute(endless).fetchall()
        assert expired.is_set()
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
