"""The catalog's file: opened by one, reopened the same, guarded against what does not fit, and safe from a kill."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike_server.domain.catalog import EmbeddedProduct, IndexChange, StoredImage
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import Model
from lookalike_server.store.migrations import MIGRATIONS
from lookalike_server.store.sqlite import Store
from lookalike_server.store.write_jobs import Written
from support.paths import GOLDEN
from support.store_fixtures import DIM, MODEL, ignore, opened, product, put, rows, vectors

OTHER = replace(MODEL, name="other", digest="b" * 64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a catalog lives; not made yet."""
    return tmp_path / "shop" / "data"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    """A new catalog, open."""
    with opened(folder) as new:
        yield new


def rejected(folder: Path, model: Model = MODEL) -> str:
    """Why this catalog cannot be opened."""
    with pytest.raises(LookalikeError) as caught:
        Store(folder, model, ignore)
    assert caught.value.code is Code.FAILED_PRECONDITION
    return caught.value.message


def ask_writer(store: Store, sql: str) -> Any:
    """What the connection that writes answers; nothing public shows how it is set."""
    return store._writer.submit(lambda db: Written(db.execute(sql).fetchone()[0], IndexChange((), ()))).result(60)


def golden(version: int) -> str:
    """The SQL of all that a file of this version contains."""
    return (GOLDEN / f"schema-{version}.sql").read_text(encoding="utf-8")


def schema(path: Path) -> tuple[int, str]:
    """A file's schema version, and the SQL of all it contains."""
    connection = sqlite3.connect(path)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    found = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid").fetchall()
    connection.close()
    return version, "".join(f"{sql};\n" for (sql,) in found)


def test_reopening(folder: Path) -> None:
    """A catalog that is closed and opened again is the same."""
    with opened(folder) as store:
        put(store, "p1", 1.0, 2.0, color="red")
        put(store, "p2", 3.0, category="Bags")
        before = (rows(store), store.page(None, "", 10), store.counts(), store.attribute_facets())
    with opened(folder) as store:
        assert (rows(store), store.page(None, "", 10), store.counts(), store.attribute_facets()) == before


def test_closing_finishes_the_writes(folder: Path) -> None:
    """What was queued before the close is there when the catalog is opened again."""
    with opened(folder) as store:
        waiting = [store.upsert(EmbeddedProduct(product(f"p{number}"), vectors(1.0))) for number in range(300)]
    assert all(future.done() and future.exception() is None for future in waiting)
    with opened(folder) as store:
        assert store.counts() == {"Shoes": 300}


def test_labels_are_never_used_again(folder: Path) -> None:
    """A label names one version of a product for good, also when the last one was deleted and the store reopened."""
    with opened(folder) as store:
        put(store, "p1", 1.0, 2.0)
        last = rows(store)[-1][1]
        store.delete("p1").result(timeout=60)
    with opened(folder) as store:
        put(store, "p2")
        assert rows(store)[0][1] > last


def test_one_server_a_folder(folder: Path) -> None:
    """A folder that is open is rejected to a second server, with its name and a way out, until it is closed."""
    with opened(folder) as first:
        assert (
            rejected(folder)
            == f"another server is using {folder}; stop it (or the rebuild) or choose another --data-dir"
        )
        put(first, "p1")
    with opened(folder) as second:
        assert second.counts() == {"Shoes": 1}


def test_another_model_is_rejected(folder: Path) -> None:
    """A catalog that holds embeddings of one model rejects another, naming both, and is free for the right one."""
    with opened(folder) as store:
        put(store, "p1")
    assert "holds embeddings of model aaaaaaaaaaaa, and other is bbbbbbbbbbbb" in rejected(folder, OTHER)
    with opened(folder) as store:
        assert store.counts() == {"Shoes": 1}


def test_another_model_takes_over_an_empty_catalog(folder: Path) -> None:
    """A catalog without products changes models, and is then bound to the new one."""
    with opened(folder) as store:
        put(store, "p1")
        store.delete("p1").result(timeout=60)
    with opened(folder, OTHER) as store:
        put(store, "p1")
    assert "holds embeddings of model bbbbbbbbbbbb" in rejected(folder)


def test_newer_schema_is_rejected(folder: Path) -> None:
    """A file of a newer version is rejected and left as it is."""
    with opened(folder):
        pass
    path = folder / "catalog.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    assert rejected(folder) == f"{path} was written by a newer version of lookalike-server; use that one"
    assert path.read_bytes() == before


def test_durable_settings(store: Store) -> None:
    """The connection that writes keeps a write-ahead log and waits for the disk at every commit."""
    assert ask_writer(store, "PRAGMA journal_mode") == "wal"
    assert ask_writer(store, "PRAGMA synchronous") == 2  # FULL
    assert ask_writer(store, "PRAGMA foreign_keys") == 1


def test_readers_cannot_write(store: Store) -> None:
    """Only one connection writes; every other one is rejected by SQLite itself."""
    put(store, "p1")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        list(store._read("DELETE FROM products"))
    assert store.counts() == {"Shoes": 1}


def test_schema_is_the_golden_one(folder: Path) -> None:
    """A new file has the schema that was released; a change of it needs a step of its own, and a golden file."""
    with opened(folder):
        pass
    assert schema(folder / "catalog.sqlite") == (len(MIGRATIONS), golden(len(MIGRATIONS)))


def test_older_files_are_brought_up_to_date(folder: Path) -> None:
    """A file of the first version is read with all it holds, and can then hold what this version adds."""
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(folder / "catalog.sqlite")) as old:
        old.executescript(f"{MIGRATIONS[0]} PRAGMA user_version = 1;")
        old.execute("INSERT INTO products VALUES ('p1', 'Shoes', 'Title of p1', 'file:///p1.jpg', '{}')")
        old.execute(
            "INSERT INTO embeddings (product_id, image_index, vector) VALUES ('p1', 0, ?)", (vectors(3.0).tobytes(),)
        )
        old.execute("INSERT INTO meta VALUES ('model_digest', ?)", (MODEL.digest,))
        old.commit()
    assert schema(folder / "catalog.sqlite") == (1, golden(1))
    with opened(folder) as store:
        assert store.products(["p1"]) == {"p1": product("p1")}
        np.testing.assert_array_equal(store.vectors("p1"), vectors(3.0))
        assert store.image("p1", 0) is None
        image = StoredImage("0" * 64, "image/png", b"new")
        store.upsert(EmbeddedProduct(product("p2"), vectors(1.0), (image,))).result(timeout=60)
        assert store.image("p2", 0) == image
    assert schema(folder / "catalog.sqlite") == (len(MIGRATIONS), golden(len(MIGRATIONS)))


WRITE = """
import sys
from pathlib import Path
import numpy as np
from lookalike_server.domain.catalog import EmbeddedProduct
from lookalike_server.store.sqlite import Store
from support.store_fixtures import DIM, MODEL, ignore, product

first = int(sys.argv[2])
store = Store(Path(sys.argv[1]), MODEL, ignore)
waiting = []
for number in range(first, 1_000_000):
    vectors = np.full((2, DIM), number, np.float32)
    waiting.append((number, store.upsert(EmbeddedProduct(product(f"p{number}"), vectors))))
    if len(waiting) == 8:
        for done, future in waiting:
            future.result()
            print(done, flush=True)
        waiting = []
"""


def test_acknowledged_writes_survive_a_kill(folder: Path) -> None:
    """Whatever was acknowledged before the process was killed is there afterwards, whole."""
    acknowledged: set[int] = set()
    for number in range(3):
        command = [sys.executable, "-c", WRITE, str(folder), str(number * 10_000)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            for _ in range(100 + 37 * number):
                acknowledged.add(int(process.stdout.readline()))
            process.send_signal(signal.SIGKILL)
            acknowledged |= {int(line) for line in process.stdout if line.endswith("\n")}
        with opened(folder) as store:
            stored = {product_id: vector for _, _, product_id, _, vector in rows(store)}
            for done in acknowledged:
                assert stored[f"p{done}"] == [done] * DIM
                np.testing.assert_array_equal(store.vectors(f"p{done}"), np.full((2, DIM), done, np.float32))
            assert ask_writer(store, "PRAGMA integrity_check") == "ok"
    assert len(acknowledged) >= 300
