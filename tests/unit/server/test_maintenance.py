"""Backup and verification of a catalog that is in use."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lookalike_server.domain.catalog import EmbeddedProduct, StoredImage
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.store.maintenance import backup, verify
from lookalike_server.store.sqlite import FILE
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
