"""The check of the catalog after a start: every checksum, and the tables that searches need, in the background.

It runs in a thread of low priority, in pieces of a millisecond, waits for searches before each, and rests three times
as long as it works, so that it takes neither the disk nor a processor from anybody for long. It reads what a start no
longer does, so a start is as fast as without it.

A vector whose bytes are not those that were stored is reported and left out of searches, and nothing else changes: one
product of many is no reason to stop. What concerns more than a vector, such as rows that are in a table and not in its
index, means that searches lack products without an error, and is reported as damage of the file.

Vectors that an earlier version stored have no checksum: they get theirs here.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import Protocol

from lookalike_server.domain.events import CatalogChecked, CatalogCheckFailed, Observer, VectorDamaged
from lookalike_server.priority import lower_priority
from lookalike_server.store.catalog_store import Store
from lookalike_server.store.checksums import checksum, is_intact
from lookalike_server.store.damage import DamagedFileError, is_damage
from lookalike_server.store.sqlite import Connection, connect

_NICE = 10
_PIECE_BYTES = 512 << 10  # of vectors
_REST = 3.0  # times as long as a piece took
_TABLES = ("meta", "products", "segments", "idempotency_keys")  # with their indexes; those of vectors are read anyway
_OPCODES = 20_000  # of SQLite's between two looks whether to go on

# Each row, and whether the ways that lead to it do: its product, and the index by product and image.
_PIECE = (
    "SELECT label, product_id, image_index, vector, crc32,"
    " (SELECT category FROM products WHERE id = product_id),"
    " (SELECT other.label FROM embeddings AS other"
    " WHERE other.product_id = this.product_id AND other.image_index = this.image_index)"
    " FROM embeddings AS this WHERE label > ? ORDER BY label LIMIT ?"
)


class Index(Protocol):
    """What the check needs of the index."""

    def wait_for_searches(self) -> None:
        """Wait until no search runs, though not for long."""

    def exclude(self, category: str, label: int) -> None:
        """Leave out a row whose stored vector is damaged."""


class CatalogCheck:
    """Checks the catalog once; owns the thread."""

    def __init__(self, store: Store, index: Index, observer: Observer) -> None:
        """Check this store from `start` on, and leave out of this index what is damaged."""
        self._store = store
        self._index = index
        self._observer = observer
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="catalog-check", daemon=True)
        self._vectors = self._damaged = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait until everything is checked."""
        self._thread.join()

    def close(self) -> None:
        """Stop, once a running piece is checked."""
        self._stopping.set()
        self.join()

    def _run(self) -> None:
        lower_priority(_NICE)
        try:
            with closing(connect(self._store.path, "ro")) as connection:
                self._check_tables(connection)
                self._check_vectors(connection)
        except Exception as error:  # noqa: BLE001 - the server goes on without the check
            if is_damage(error):
                self._store.damage.public_error(error)
            elif not self._stopping.is_set():
                self._observer(CatalogCheckFailed(error))
        else:
            if not self._stopping.is_set():
                self._observer(CatalogChecked(self._vectors, self._damaged))

    def _check_tables(self, connection: Connection) -> None:
        connection.set_progress_handler(self._ends, _OPCODES)
        for table in _TABLES:
            for (found,) in connection.execute(f"PRAGMA integrity_check({table})"):
                if found != "ok":
                    raise DamagedFileError(f"table {table}: {found}")
        # SQLite leaves constraints alone on a connection that only reads.
        for (product_id,) in connection.execute("SELECT id FROM products WHERE NOT json_valid(attributes) LIMIT 1"):
            raise DamagedFileError(f"the attributes of {product_id!r} are not JSON")
        connection.set_progress_handler(None, 0)

    def _ends(self) -> bool:
        """Whether SQLite is to stop; waits for searches before it says no."""
        if not self._stopping.is_set():
            self._index.wait_for_searches()
        return self._stopping.is_set()

    def _check_vectors(self, connection: Connection) -> None:
        rows = max(1, _PIECE_BYTES // (4 * self._store.dim))
        last, seconds = 0, 0.0
        while not self._stopping.wait(_REST * seconds):
            self._index.wait_for_searches()
            began = time.monotonic()
            piece = connection.execute(_PIECE, (last, rows)).fetchall()
            if not piece:
                return
            missing = []
            for label, product_id, image_index, vector, crc32, category, found in piece:
                name = f"embedding {image_index} of {product_id!r}"
                if label <= last:
                    raise DamagedFileError(f"{name} is not in its place")
                if category is None:
                    raise DamagedFileError(f"the product of {name} cannot be found")
                if found != label:
                    raise DamagedFileError(f"{name} cannot be found by its product")
                last = label
                if not is_intact(vector, crc32, self._store.dim):
                    self._damaged += 1
                    self._observer(VectorDamaged(product_id, image_index))
                    self._index.exclude(category, label)
                elif crc32 is None:
                    missing.append((checksum(vector), label))
            self._vectors += len(piece)
            if missing:
                self._store.add_checksums(missing).result()
            seconds = time.monotonic() - began
