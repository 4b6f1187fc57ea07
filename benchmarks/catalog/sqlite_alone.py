"""SQLite alone: the same rows as the server's upserts, in transactions of the same size, and nothing else.

A process of its own with Python's sqlite3; WAL, synchronous=FULL, and the schema that the server's own file has.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import count, islice
from pathlib import Path
from typing import Any

from benchmarks.catalog.json_pipe import work
from benchmarks.catalog.messages import attributes_of, category_of, product_id, title_of
from benchmarks.catalog.vectors import VectorSet

Row = tuple[str, str, str, str, str, bytes]
"""id, category, title, image_uri, attributes and vector of a product."""

_SLICE = 1024  # products prepared at a time, while the clock is stopped


def make(like: str, path: str) -> Mapping[str, Any]:
    """Make a new, empty file with the schema of another one."""
    Path(path).unlink(missing_ok=True)
    with closing(sqlite3.connect(f"{Path(like).as_uri()}?mode=ro", uri=True)) as source:
        statements = [
            sql
            for (sql,) in source.execute(
                "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
                " ORDER BY type = 'table' DESC, rootpage"
            )
        ]
    with closing(_opened(path)) as connection:
        for statement in statements:
            connection.execute(statement)
    return {"statements": len(statements)}


def upsert(
    path: str, vectors: str, categories: int, batch: int, seconds: float, seed: int, first: int | None
) -> Mapping[str, Any]:
    """Upsert in transactions of `batch` products.

    Args:
        path: The file.
        vectors: The vectors.
        categories: Over how many the rows are spread.
        batch: Products of a transaction.
        seconds: How long transactions are begun; preparing rows does not count.
        seed: Of the choice of products.
        first: The number of the first new product; None replaces random ones.
    """
    rows = _rows(VectorSet.from_json(vectors), categories, seed, first)
    done, spent = 0, 0.0
    with closing(_opened(path)) as connection:
        while spent < seconds:
            ready = list(islice(rows, max(1, _SLICE // batch) * batch))
            begun = time.perf_counter()
            for at in range(0, len(ready), batch):
                _commit(connection, ready[at : at + batch])
                done += len(ready[at : at + batch])
                if spent + time.perf_counter() - begun >= seconds:
                    break
            spent += time.perf_counter() - begun
        (version,) = connection.execute("SELECT sqlite_version()").fetchone()
    return {"upserts": done, "seconds": spent, "sqlite": version}


def _commit(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for row in rows:
        connection.execute("DELETE FROM embeddings WHERE product_id = ?", row[:1])
        connection.execute(
            "INSERT INTO products (id, category, title, image_uri, attributes) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET category = excluded.category, title = excluded.title,"
            " image_uri = excluded.image_uri, attributes = excluded.attributes",
            row[:5],
        )
        connection.execute(
            "INSERT INTO embeddings (product_id, image_index, vector) VALUES (?, 0, ?)", (row[0], row[5])
        )
    connection.execute("COMMIT")


def _rows(vectors: VectorSet, categories: int, seed: int, first: int | None) -> Iterator[Row]:
    """Yield the same products and vectors as the server's upserts have."""
    if first is not None:
        rows = vectors.array("rows")
        for row in count(first):
            yield _row(vectors, row, categories, rows[row % vectors.total].tobytes())
    for row, vector in vectors.replacements(seed):
        yield _row(vectors, row, categories, vector.tobytes())


def _row(vectors: VectorSet, row: int, categories: int, vector: bytes) -> Row:
    attributes = json.dumps(attributes_of(row))
    return product_id(vectors, row), category_of(vectors, row, categories), title_of(row), "", attributes, vector


def _opened(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


if __name__ == "__main__":
    work({"make": make, "upsert": upsert})
