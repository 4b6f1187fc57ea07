"""The catalog file: one writer, unchanged after reopening, migrated, and rejected if it cannot be used."""

# The SQL is made of the tests' own constants.
# ruff: noqa: S608

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike_server.domain.catalog import EmbeddedProduct, IdempotencyKey, StoredImage
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import Model
from lookalike_server.store import catalog_store, reads
from lookalike_server.store.catalog_store import Store
from lookalike_server.store.migrations import MIGRATIONS
from lookalike_server.store.reembedding import open_reembedding
from lookalike_server.store.sqlite import FILE, Connection, connect
from support.paths import GOLDEN
from support.store_fixtures import MODEL, ignore, opened, product, put, rows, vectors

OTHER = replace(MODEL, name="other", digest="b" * 64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a catalog; it does not exist yet."""
    return tmp_path / "shop" / "data"


def rejected(folder: Path, model: Model = MODEL) -> str:
    """Return the error of opening this catalog."""
    with pytest.raises(LookalikeError) as caught:
        Store(folder, model, ignore)
    assert caught.value.code is Code.FAILED_PRECONDITION
    return caught.value.message


def golden(version: int) -> str:
    """Return the SQL of everything in a file of this schema version."""
    return (GOLDEN / f"schema-{version}.sql").read_text(encoding="utf-8")


def schema(path: Path) -> tuple[int, str]:
    """Return a file's schema version, and the SQL of everything in it."""
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        found = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid").fetchall()
    return version, "".join(f"{sql};\n" for (sql,) in found)


def make_old(folder: Path, version: int, statements: str) -> None:
    """Make a catalog file as an earlier schema version did, bound to MODEL."""
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(folder / FILE)) as old:
        old.executescript(f"{''.join(MIGRATIONS[:version])} PRAGMA user_version = {version};")
        old.execute("INSERT INTO meta VALUES ('model_digest', ?)", (MODEL.digest,))
        old.executescript(statements)
        old.commit()
    assert schema(folder / FILE) == (version, golden(version))


def test_reopening(folder: Path) -> None:
    """A catalog is the same after closing and opening it again."""
    with opened(folder) as store:
        put(store, "p1", 1.0, 2.0, color="red")
        put(store, "p2", 3.0, category="Bags")
        before = (rows(store), store.page(None, "", 10), store.counts(), store.attribute_facets())
    with opened(folder) as store:
        assert (rows(store), store.page(None, "", 10), store.counts(), store.attribute_facets()) == before


def test_closing_finishes_the_writes(folder: Path) -> None:
    """Writes that were queued before the close are in the catalog when it is opened again."""
    with opened(folder) as store:
        waiting = [store.upsert(EmbeddedProduct(product(f"p{number}"), vectors(1.0))) for number in range(300)]
    assert all(future.done() and future.exception() is None for future in waiting)
    with opened(folder) as store:
        assert store.counts() == {"Shoes": 300}


def test_labels_are_never_reused(folder: Path) -> None:
    """A label is not reused, not even after the last one was deleted and the catalog reopened."""
    with opened(folder) as store:
        put(store, "p1", 1.0, 2.0)
        last = rows(store)[-1][1]
        store.delete("p1").result(timeout=60)
    with opened(folder) as store:
        put(store, "p2")
        assert rows(store)[0][1] > last


def test_one_server_per_folder(folder: Path) -> None:
    """A second server cannot open a folder that is in use; the error names the folder and what to do."""
    with opened(folder) as first:
        assert (
            rejected(folder)
            == f"another server is using {folder}; stop it (or the reembed command) or choose another --data-dir"
        )
        put(first, "p1")
    with opened(folder) as second:
        assert second.counts() == {"Shoes": 1}


def test_another_model_is_rejected(folder: Path) -> None:
    """A catalog with embeddings of one model rejects another one, naming both, and still opens with its own."""
    with opened(folder) as store:
        put(store, "p1")
    assert "holds embeddings of model aaaaaaaaaaaa, but other is bbbbbbbbbbbb" in rejected(folder, OTHER)
    with opened(folder) as store:
        assert store.counts() == {"Shoes": 1}


def test_another_model_takes_over_an_empty_catalog(folder: Path) -> None:
    """A catalog without products accepts another model, and is then bound to it."""
    with opened(folder) as store:
        put(store, "p1")
        store.delete("p1").result(timeout=60)
    with opened(folder, OTHER) as store:
        put(store, "p1")
    assert "holds embeddings of model bbbbbbbbbbbb" in rejected(folder)


def test_newer_schema_is_rejected(folder: Path) -> None:
    """A file of a newer version is rejected and not changed."""
    with opened(folder):
        pass
    path = folder / FILE
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    assert rejected(folder) == f"{path} was written by a newer version of lookalike-server; use that version"
    assert path.read_bytes() == before


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> dict[str, Connection]:
    """Return the latest connection that a store opened, by its mode."""
    opened_by_mode: dict[str, Connection] = {}

    def spy(path: Path, mode: str) -> Connection:
        opened_by_mode[mode] = connect(path, mode)
        return opened_by_mode[mode]

    for module in (catalog_store, reads):
        monkeypatch.setattr(module, "connect", spy)
    return opened_by_mode


def test_durable_settings(folder: Path, connections: dict[str, Connection]) -> None:
    """The connection that writes uses a write-ahead log, flushes every commit, and enforces foreign keys."""

    def pragma(name: str) -> Any:
        return connections["rwc"].execute(f"PRAGMA {name}").fetchone()[0]

    with opened(folder):
        assert pragma("journal_mode") == "wal"
        assert pragma("synchronous") == 2  # FULL
        assert pragma("foreign_keys") == 1


def test_readers_cannot_write(folder: Path, connections: dict[str, Connection]) -> None:
    """SQLite itself rejects writes by any other connection."""
    with opened(folder) as store:
        put(store, "p1")
        assert store.counts() == {"Shoes": 1}
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connections["ro"].execute("DELETE FROM products")
        assert store.counts() == {"Shoes": 1}


def test_golden_schema(folder: Path) -> None:
    """A new file has the schema that was released; a change needs a new migration, and a golden file."""
    with opened(folder):
        pass
    assert schema(folder / FILE) == (len(MIGRATIONS), golden(len(MIGRATIONS)))


PRODUCT = "INSERT INTO products VALUES ('p1', 'Shoes', 'Title of p1', 'file:///p1.jpg', '{}');"
VECTOR = f"x'{vectors(3.0).tobytes().hex()}'"
IMAGE = StoredImage("0" * 64, "image/png", b"old")
OLD_FILES = {
    1: f"""{PRODUCT}
    INSERT INTO embeddings (product_id, image_index, vector) VALUES ('p1', 0, {VECTOR});""",
    2: f"""{PRODUCT}
    INSERT INTO pictures VALUES ('{IMAGE.sha256}', 'image/png', x'{IMAGE.data.hex()}'); -- codespell:ignore
    INSERT INTO embeddings VALUES (7, 'p1', 0, {VECTOR}, '{IMAGE.sha256}', NULL);
    INSERT INTO requests VALUES ('key', 'p1', 'digest', 4000000000);""",
}
OLD_FILES[3] = f"{OLD_FILES[2]} INSERT INTO segments VALUES (1, 'Shoes', 'graph.npz', 10, 'abc');"


@pytest.mark.parametrize("version", OLD_FILES)
def test_migration(folder: Path, version: int) -> None:
    """A file of an earlier version is migrated with all its contents, and can then store what this version adds."""
    make_old(folder, version, OLD_FILES[version])
    with opened(folder) as store:
        assert store.products(["p1"]) == {"p1": product("p1")}
        np.testing.assert_array_equal(store.vectors("p1"), vectors(3.0))
        assert store.image("p1", 0) == (IMAGE if version > 1 else None)
        assert store.done(IdempotencyKey("key", "p1", "digest")) is (version > 1)
        assert list(store.segments()) == (["Shoes"] if version > 2 else [])
        image = StoredImage("1" * 64, "image/png", b"new")
        store.upsert(EmbeddedProduct(product("p2"), vectors(1.0), (image,))).result(timeout=60)
        assert store.image("p2", 0) == image
        store.delete("p1").result(timeout=60)
        assert store.image("p1", 0) is None
    assert schema(folder / FILE) == (len(MIGRATIONS), golden(len(MIGRATIONS)))


def test_migration_of_an_interrupted_rebuild(folder: Path) -> None:
    """What the `rebuild` command of schema 3 left behind is resumed: its vectors are used, and only others are made."""
    make_old(
        folder,
        3,
        f"""{PRODUCT}
        INSERT INTO pictures VALUES ('first', 'image/png', x'01'), ('second', 'image/png', x'02'); -- codespell:ignore
        INSERT INTO embeddings VALUES (1, 'p1', 0, {VECTOR}, 'first', '[0, 0, 0.5, 1]');
        INSERT INTO embeddings VALUES (2, 'p1', 1, {VECTOR}, 'second', NULL);
        INSERT INTO meta VALUES ('rebuilding_digest', '{OTHER.digest}');
        INSERT INTO rebuilt VALUES ('first', '[0, 0, 0.5, 1]', x'{vectors(8.0).tobytes().hex()}');""",
    )
    with open_reembedding(folder, OTHER) as catalog:
        assert catalog.digest == MODEL.digest
        catalog.begin()
        assert catalog.counts() == (1, 2)
        assert [(key, image.data) for key, image in catalog.pending()] == [(("second", ""), b"\x02")]
        catalog.add([("second", "")], vectors(9.0))
        assert catalog.finish(drop=False) == (1, 0)
    with opened(folder, OTHER) as store:
        np.testing.assert_array_equal(store.vectors("p1"), vectors(8.0, 9.0))
    assert schema(folder / FILE) == (len(MIGRATIONS), golden(len(MIGRATIONS)))
