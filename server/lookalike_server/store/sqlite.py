"""Products and their embeddings in one SQLite file; the only place that imports `sqlite3`.

WAL with synchronous=FULL: what a future reports as done survives a power cut. One connection writes and checkpoints (in
the writer's thread) and all others are read-only, which also keeps clear of the WAL-reset bug of SQLite before 3.51.3.
Vectors are stored as little-endian float32.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO, Any

import numpy as np

from lookalike_server.domain.catalog import (
    AttributeFacet,
    EmbeddedProduct,
    IdempotencyKey,
    IndexChange,
    IndexRow,
    Page,
    Product,
    SegmentFile,
    StoredImage,
)
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import Floats, Model
from lookalike_server.store.migrations import MIGRATIONS
from lookalike_server.store.statements import (
    COLUMNS,
    NOTHING,
    delete,
    keep_segments,
    once,
    product_of,
    repeated,
    update_attributes,
    upsert,
)
from lookalike_server.store.wal import Wal
from lookalike_server.store.write_jobs import Written
from lookalike_server.store.writer import Writer

FILE = "catalog.sqlite"
"""The catalog's file in its folder."""

Failure = sqlite3.Error
VERSION = sqlite3.sqlite_version

TOP_VALUES = 100
"""Values of an attribute that `attribute_facets` lists; the API promises this number."""


class Store:
    """The catalog in `folder`. Reads block and may run in any thread; writes are queued and answered by futures."""

    def __init__(
        self,
        folder: Path,
        model: Model,
        on_commit: Callable[[IndexChange], None],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the catalog, making it when it is new.

        Args:
            folder: Where it lives; made when missing.
            model: The model whose embeddings it holds; a new catalog is bound to it.
            on_commit: Told in the writer's thread, in commit order, before a write's future is done.
            wall_clock: Seconds since 1970, for how long the names of requests are kept.

        Raises:
            LookalikeError: FAILED_PRECONDITION when another process has the folder, it cannot be written, the file is
                no catalog, was written by a newer version, or holds embeddings of another model.
        """
        self._path = folder / FILE
        self._dim = model.dim
        self._wall_clock = wall_clock
        with ExitStack() as undo:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._lock = undo.enter_context(lock_folder(folder))
                self._connection = undo.enter_context(closing(connect(self._path, "rwc")))
                # Closed after the connection is, which is what it must wait for.
                self._log = Wal(self._connection)
                prepare(self._connection, self._path, model, self._log)
            except (OSError, sqlite3.Error) as error:
                raise LookalikeError(Code.FAILED_PRECONDITION, f"cannot use {self._path}: {error}") from error
            undo.pop_all()
        self._writer = Writer(self._connection, self._log, on_commit)
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []

    # Writes

    def upsert(self, product: EmbeddedProduct, name: IdempotencyKey | None = None) -> Future[None]:
        """Store or replace one product; the future is done once it is durable and searchable."""
        return self._writer.submit(once(name, upsert(product), self._wall_clock()))

    def upsert_all(self, products: Sequence[tuple[EmbeddedProduct, IdempotencyKey | None]]) -> Future[list[object]]:
        """Store or replace products, at least one, apart; the future has the exception of each that was rejected."""
        now = self._wall_clock()
        return self._writer.submit_all([once(name, upsert(product), now) for product, name in products])

    def delete(self, product_id: str, name: IdempotencyKey | None = None) -> Future[bool]:
        """Remove one product; the future tells whether there was one (or is, of a repeat: it was done)."""
        return self._writer.submit(once(name, delete(product_id), self._wall_clock()))

    def update_attributes(
        self, product_id: str, values: Mapping[str, str], cleared: Sequence[str], name: IdempotencyKey | None = None
    ) -> Future[bool]:
        """Give attributes of a product these values and clear others; the future tells whether there is one."""
        return self._writer.submit(once(name, update_attributes(product_id, values, cleared), self._wall_clock()))

    # Reads

    def products(self, ids: Sequence[str]) -> dict[str, Product]:
        """Read products by id; unknown ids are missing from the answer."""
        rows = self._read(
            f"SELECT {COLUMNS} FROM products WHERE id IN (SELECT value FROM json_each(?))",  # noqa: S608 - constant
            (json.dumps(list(ids)),),
        )
        return {product.id: product for product in map(product_of, rows)}

    def vectors(self, product_id: str) -> Floats:
        """Read the embeddings of a product: float32 [images, dim], by image index; no rows when there is none."""
        rows = self._read("SELECT vector FROM embeddings WHERE product_id = ? ORDER BY image_index", (product_id,))
        return np.array([_vector(blob) for (blob,) in rows], dtype=np.float32).reshape(-1, self._dim)

    def done(self, name: IdempotencyKey) -> bool:
        """Whether a write of this name is done.

        Raises:
            LookalikeError: INVALID_ARGUMENT when another request had the name.
        """
        return repeated(self._reader(), name)

    def image(self, product_id: str, image_index: int) -> StoredImage | None:
        """Read an image of a product as it was sent; None where it was not kept."""
        for sha256, media_type, data in self._read(
            "SELECT sha256, media_type, data FROM embeddings JOIN images ON sha256 = image"
            " WHERE product_id = ? AND image_index = ?",
            (product_id, image_index),
        ):
            return StoredImage(sha256, media_type, data)
        return None

    def page(self, category: str | None, after: str, size: int) -> Page:
        """Read `size` products with ids greater than `after`, of one category or of all (None)."""
        sql = f"SELECT {COLUMNS} FROM products WHERE id > ?"  # noqa: S608 - a constant
        arguments: list[object] = [after]
        if category is not None:
            sql += " AND category = ?"
            arguments.append(category)
        rows = list(self._read(f"{sql} ORDER BY id LIMIT ?", (*arguments, size + 1)))
        found = [product_of(row) for row in rows[:size]]
        return Page(found, next_after=found[-1].id if len(rows) > size else None)

    def embedded(self, category: str | None, after: str, size: int) -> list[EmbeddedProduct]:
        """Read `size` products with ids greater than `after`, of one category or of all (None), with their embeddings.

        It is one statement, so that no product is seen half changed, and read to its end, so that nothing stays open.
        """
        chosen = f"SELECT {COLUMNS} FROM products WHERE id > ?"  # noqa: S608 - a constant
        arguments: list[object] = [after]
        if category is not None:
            chosen += " AND category = ?"
            arguments.append(category)
        rows = self._read(
            f"WITH chosen AS ({chosen} ORDER BY id LIMIT ?) SELECT {COLUMNS}, vector"  # noqa: S608 - constants
            " FROM chosen JOIN embeddings ON product_id = id ORDER BY id, image_index",
            (*arguments, size),
        )
        images: dict[str, list[tuple[Any, ...]]] = {}
        for row in rows:
            images.setdefault(row[0], []).append(row)
        return [
            EmbeddedProduct(product_of(own[0][:-1]), np.stack([_vector(row[-1]) for row in own]))
            for own in images.values()
        ]

    def counts(self) -> dict[str, int]:
        """Count the products of each category, by name."""
        return dict(self._read("SELECT category, count(*) FROM products GROUP BY category ORDER BY category"))

    def attribute_facets(self) -> dict[str, list[AttributeFacet]]:
        """Count the values of every attribute in every category; reads the whole catalog."""
        rows = self._read(
            "SELECT category, key, value, count(*) FROM products, json_each(attributes)"
            " GROUP BY category, key, value ORDER BY category, key, count(*) DESC, value"
        )
        values: dict[tuple[str, str], list[tuple[str, int]]] = {}
        for category, name, value, count in rows:
            values.setdefault((category, name), []).append((value, count))
        seen: dict[str, list[AttributeFacet]] = {}
        for (category, name), counted in values.items():
            seen.setdefault(category, []).append(AttributeFacet(name, len(counted), counted[:TOP_VALUES]))
        return seen

    # What the index is made from

    def row_counts(self) -> dict[str, int]:
        """Count the embeddings of each category."""
        return dict(
            self._read(
                "SELECT category, count(*) FROM products JOIN embeddings ON product_id = products.id GROUP BY category"
            )
        )

    def rows(self, category: str) -> Iterator[IndexRow]:
        """Read the embeddings of a category, in any order: sorting would take longer than reading."""
        for label, product_id, image_index, blob, attributes in self._read(
            "SELECT label, product_id, image_index, vector, attributes FROM products"
            " JOIN embeddings ON product_id = products.id WHERE category = ?",
            (category,),
        ):
            yield IndexRow(label, product_id, image_index, _vector(blob), json.loads(attributes))

    def wait_until_applied(self) -> None:
        """Return once `on_commit` was told of everything that was committed before the call."""
        self._writer.submit(lambda _: Written(None, NOTHING)).result()

    def segments(self) -> dict[str, list[SegmentFile]]:
        """Read which files of the index can be trusted, by category (see `Manifest`)."""
        files: dict[str, list[SegmentFile]] = {}
        for category, *file in self._read("SELECT category, file, size, sha256 FROM segments ORDER BY category, id"):
            files.setdefault(category, []).append(SegmentFile(*file))
        return files

    def keep_segments(self, category: str, files: Sequence[SegmentFile]) -> Future[None]:
        """Trust these files of a category and no others (see `Manifest`)."""
        return self._writer.submit(keep_segments(category, files))

    def close(self) -> None:
        """Finish the queued writes and close the file."""
        self._writer.close()
        for reader in self._readers:
            reader.close()
        self._connection.close()
        self._log.close()
        self._lock.close()

    def _read(self, sql: str, arguments: Sequence[object] = ()) -> Iterable[tuple[Any, ...]]:
        return self._reader().execute(sql, arguments)

    def _reader(self) -> sqlite3.Connection:
        """This thread's connection."""
        reader: sqlite3.Connection | None = getattr(self._local, "reader", None)
        if reader is None:
            reader = self._local.reader = connect(self._path, "ro")
            self._readers.append(reader)
        return reader


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open a file: mode "ro" to read, "rwc" to write and make it when missing."""
    # isolation_level None: transactions are begun where the code says so, never by the module.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=10.0
    )


def lock_folder(folder: Path) -> IO[str]:
    """Keep everybody else who writes off a catalog's folder, until what this returns is closed.

    Raises:
        LookalikeError: FAILED_PRECONDITION when another process has it.
    """
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise LookalikeError(
            Code.FAILED_PRECONDITION,
            f"another server is using {folder}; stop it (or the rebuild) or choose another --data-dir",
        ) from None
    return lock


def prepare(connection: sqlite3.Connection, path: Path, model: Model, log: Wal) -> None:
    """Set up the connection that writes, bring the file up to date, and bind it to the model where it holds nothing.

    Raises:
        LookalikeError: FAILED_PRECONDITION when a newer version wrote it, or it holds embeddings of another model.
        sqlite3.Error: It is no catalog, or cannot be written.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise LookalikeError(
            Code.FAILED_PRECONDITION,
            f"{path} was written by a newer version of lookalike-server; use that one",
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    log.reset()  # what a crash left in the log may be there in memory only
    connection.execute("PRAGMA foreign_keys = ON")
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")
    found = connection.execute("SELECT value FROM meta WHERE key = 'model_digest'").fetchone()
    if found is not None and found[0] != model.digest and _holds_rows(connection):
        raise LookalikeError(
            Code.FAILED_PRECONDITION,
            f"{path} holds embeddings of model {found[0][:12]}, and {model.name} is {model.digest[:12]}: their"
            " distances mean nothing to each other. Make it this model's with `lookalike-server reembed`, or serve the"
            " model it was made with",
        )
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('model_digest', ?)", (model.digest,))


def _holds_rows(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM embeddings LIMIT 1").fetchone() is not None


def _vector(blob: bytes) -> Floats:
    return np.frombuffer(blob, dtype="<f4").astype(np.float32, copy=False)
