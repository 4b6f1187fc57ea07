"""The durable catalog: `CatalogReader`'s queries, and writes that one thread commits."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from lookalike_server.domain.catalog import EmbeddedProduct, IdempotencyKey, IndexChange, Product, SegmentFile
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.events import Observer, TransactionCommitted
from lookalike_server.domain.inference import Model
from lookalike_server.domain.observing import receiver
from lookalike_server.store.damage import REMEDY, Damage, is_damage
from lookalike_server.store.lost_file import reject_lost_file
from lookalike_server.store.private_folder import make_private
from lookalike_server.store.product_cache import ProductCache
from lookalike_server.store.reads import CatalogReader
from lookalike_server.store.sqlite import FILE, FILE_ERRORS, connect, lock_folder, prepare
from lookalike_server.store.statements import (
    NO_CHANGE,
    add_checksums,
    delete,
    idempotent,
    replace_segments,
    update_attributes,
)
from lookalike_server.store.upserts import Upsert
from lookalike_server.store.wal import Wal
from lookalike_server.store.write_jobs import WriteOp, WriteResult
from lookalike_server.store.writer import Writer


class Store(CatalogReader):
    """The catalog in a folder. Writes are queued, and return futures that complete once the write survives a crash.

    Attributes:
        is_open_to_others: Whether other users can look into the folder.
    """

    def __init__(
        self,
        folder: Path,
        model: Model,
        on_commit: Callable[[IndexChange], None],
        wall_clock: Callable[[], float] = time.time,
        product_cache_bytes: int = 0,
        on_damage: Callable[[Exception], None] = lambda _: None,
        observer: Observer | None = None,
    ) -> None:
        """Open the catalog, and create it if it is missing.

        Args:
            folder: Where it is; created if missing.
            model: The model whose embeddings it holds; a new catalog is bound to it.
            on_commit: Called in a thread of the store, one call at a time and in commit order, before a write's future
                completes.
            wall_clock: Seconds since 1970, for the expiry of idempotency keys.
            product_cache_bytes: Bytes of products that are kept in memory.
            on_damage: Called once, in any thread, with the first error that says that the file is damaged; all writes
                are rejected from then on.
            observer: Receives every transaction that is committed, in the thread that writes.

        Raises:
            LookalikeError: FAILED_PRECONDITION if another process has the folder, it cannot be written, or the file is
                not a catalog, was written by a newer version, or holds embeddings of another model.
        """
        path = folder / FILE
        super().__init__(path, model.dim, Damage(on_damage))
        self._wall_clock = wall_clock
        self._product_cache = ProductCache(product_cache_bytes)
        self._on_commit = on_commit
        with ExitStack() as undo:
            try:
                self.is_open_to_others = make_private(folder)
                self._lock = undo.enter_context(lock_folder(folder))
                reject_lost_file(folder)
                self._connection = undo.enter_context(closing(connect(path, "rwc")))
                self._wal = Wal(self._connection)
                prepare(self._connection, path, model, self._wal)
            except FILE_ERRORS as error:
                remedy = f"; {REMEDY}" if is_damage(error) else ""
                raise LookalikeError(Code.FAILED_PRECONDITION, f"cannot use {path}: {error}{remedy}") from error
            undo.pop_all()
        self._writer = Writer(self._connection, self._wal, self._apply)
        self._writer.damage = self.damage
        self._writer.on_transaction = receiver(observer, TransactionCommitted) if observer is not None else None

    def products(self, ids: Sequence[str]) -> dict[str, Product]:
        """Read products by id, from memory where they are there; unknown ids are missing from the result."""
        return self._product_cache.get(ids, super().products)

    def upsert(
        self,
        product: EmbeddedProduct,
        idempotency_key: IdempotencyKey | None = None,
        within: frozenset[str] | None = None,
    ) -> Future[None]:
        """Store or replace one product; the future completes once it is durable and searchable."""
        return self._submit(Upsert(product, idempotency_key, within, self._wall_clock()))

    def upsert_all(
        self,
        products: Sequence[tuple[EmbeddedProduct, IdempotencyKey | None]],
        within: frozenset[str] | None = None,
    ) -> Future[list[object]]:
        """Store or replace one or more products independently; the future has the exception of each rejected one."""
        self.damage.check_writable()
        now = self._wall_clock()
        return self._writer.submit_all([Upsert(product, key, within, now) for product, key in products])

    def delete(
        self,
        product_id: str,
        idempotency_key: IdempotencyKey | None = None,
        within: frozenset[str] | None = None,
    ) -> Future[bool]:
        """Delete one product; the future says whether it existed (or, for a repeat, that it was deleted)."""
        return self._submit(idempotent(idempotency_key, delete(product_id, within), self._wall_clock()))

    def update_attributes(
        self,
        product_id: str,
        attributes: Mapping[str, str],
        clear: Sequence[str],
        idempotency_key: IdempotencyKey | None = None,
        within: frozenset[str] | None = None,
    ) -> Future[bool]:
        """Set attributes of a product and clear others; the future says whether the product exists."""
        op = update_attributes(product_id, attributes, clear, within)
        return self._submit(idempotent(idempotency_key, op, self._wall_clock()))

    def replace_segments(self, category: str, files: Sequence[SegmentFile]) -> Future[None]:
        """Make these the only trusted index files of a category (see `SegmentManifest`)."""
        return self._submit(replace_segments(category, files))

    def add_checksums(self, checksums: Sequence[tuple[int, int]]) -> Future[None]:
        """Store checksums for embeddings without one, each with the label."""
        return self._submit(add_checksums(checksums))

    def wait_until_applied(self) -> None:
        """Return once `on_commit` has received everything that was committed before the call."""
        self._writer.submit(lambda _: WriteResult(None, NO_CHANGE)).result()

    def _submit(self, op: WriteOp) -> Future[Any]:
        self.damage.check_writable()
        return self._writer.submit(op)

    def _apply(self, change: IndexChange) -> None:
        # First, so that a search never finds a row of a product that is still the old one in memory.
        if change.products:
            self._product_cache.forget(change.products)
        self._on_commit(change)

    def close(self) -> None:
        """Finish the queued writes and close the file."""
        self._writer.close()
        super().close()
        self._connection.close()
        self._wal.close()
        self._lock.close()
