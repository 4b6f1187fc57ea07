"""A new model's embeddings for a whole catalog: collected beside the old ones, then swapped in by one transaction.

Until that transaction the catalog is unchanged in every respect, and the old model can serve it. The new vectors so far
are in the table `reembedded`, so that an interrupted run is resumed; `reembedding_digest` in `meta` says which model
made them. An image, or a region of one, is in it once, however many products have it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import EncodedImage, Floats, Model, Region
from lookalike_server.store.checksums import checksum
from lookalike_server.store.sqlite import FILE, FILE_ERRORS, SqliteError, connect, lock_folder, prepare
from lookalike_server.store.wal import Wal

ImageKey: TypeAlias = tuple[str, str]
"""What a vector is made from: an image's sha256, and its region as in `embeddings.region` ('': the whole image)."""

_PAGE = 1000  # rows read or replaced at a time, so that memory use does not grow with the catalog
_PAGE_BYTES = 16 << 20  # of vectors replaced at a time

# Conditions on a row of embeddings, which all statements here call `old`.
_REGION = "coalesce(old.region, '')"
_NO_IMAGE = "(image IS NULL OR NOT EXISTS (SELECT 1 FROM images WHERE sha256 = image))"
_EMBEDDED = f"EXISTS (SELECT 1 FROM reembedded AS new WHERE new.image = old.image AND new.region = {_REGION})"  # noqa: S608 - constants
# A product that lacks an image cannot be reembedded as a whole, so its other images need no vectors.
_NEEDED = f"NOT EXISTS (SELECT 1 FROM embeddings WHERE product_id = old.product_id AND {_NO_IMAGE})"  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class UnembeddedProducts:
    """Products that lack a new embedding: how many, and of the first few the id and an image's sha256, if stored."""

    count: int
    first: Sequence[tuple[str, str | None]]


class Reembedding:
    """A locked catalog that is being converted to a new model. One thread uses it."""

    def __init__(self, connection: Any, wal: Wal, model: Model, digest: str) -> None:
        """Take the only connection that writes, its WAL, the new model, and the digest of the catalog's present one."""
        self._connection = connection
        self._wal = wal
        self._model = model
        self.digest = digest

    def begin(self) -> None:
        """Record the new model; vectors that any other model left behind are deleted."""
        with self._transaction():
            if self._meta("reembedding_digest") != self._model.digest:
                self._connection.execute("DELETE FROM reembedded")
                self._set("reembedding_digest", self._model.digest)

    def without_image(self, limit: int) -> UnembeddedProducts:
        """Find products with an embedding whose image is not stored: all are counted, `limit` are named."""
        return self._unembedded(_NO_IMAGE, limit, "NULL")

    def without_vector(self, limit: int) -> UnembeddedProducts:
        """Find products with an embedding that has no new vector: all are counted, `limit` are named."""
        return self._unembedded(f"NOT {_EMBEDDED}", limit, "image")

    def counts(self) -> tuple[int, int]:
        """Return how many new vectors there are, and how many are needed in all."""
        distinct = f"SELECT count(*) FROM (SELECT DISTINCT image, {_REGION} FROM embeddings AS old WHERE {_NEEDED}"  # noqa: S608
        (total,) = self._connection.execute(f"{distinct})").fetchone()
        (done,) = self._connection.execute(f"{distinct} AND {_EMBEDDED})").fetchone()
        return done, total

    def pending(self) -> Iterator[tuple[ImageKey, EncodedImage]]:
        """Yield what still needs a vector, in the order of sha256; `add` may be called meanwhile."""
        after = ""
        while True:
            page = self._connection.execute(
                "SELECT DISTINCT image FROM embeddings AS old"  # noqa: S608 - constants
                f" WHERE image > ? AND {_NEEDED} AND NOT {_EMBEDDED} ORDER BY image LIMIT ?",
                (after, _PAGE),
            ).fetchall()
            if not page:
                return
            for (image,) in page:
                yield from self._regions(image)
            after = page[-1][0]

    def add(self, keys: Sequence[ImageKey], vectors: Floats) -> None:
        """Store new vectors, float32 [n, dim]; they are on disk when it returns."""
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO reembedded (image, region, vector, crc32) VALUES (?, ?, ?, ?)",
                [
                    (*key, stored, checksum(stored))
                    for key, stored in zip(keys, (each.astype("<f4").tobytes() for each in vectors), strict=True)
                ],
            )
        if self._wal.record_write(2 * vectors.nbytes):
            self._wal.checkpoint()

    def finish(self, *, drop: bool) -> tuple[int, int]:
        """Replace all embeddings by the new ones in one transaction, and bind the catalog to the new model.

        Args:
            drop: Delete the products that lack a new embedding.

        Returns:
            How many products there are now, and how many were deleted.

        Raises:
            LookalikeError: FAILED_PRECONDITION if products lack an embedding and `drop` is false, or all of them do:
                then the model or the images are at fault, not the products.
        """
        with self._transaction():
            dropped = self._drop() if drop else 0
            self._replace()
            # The index files are a cache of the old vectors.
            self._connection.execute("DELETE FROM segments")
            self._connection.execute("DELETE FROM reembedded")
            self._connection.execute("DELETE FROM meta WHERE key = 'reembedding_digest'")
            self._set("model_digest", self._model.digest)
            (products,) = self._connection.execute("SELECT count(*) FROM products").fetchone()
            if dropped and not products:
                raise LookalikeError(
                    Code.FAILED_PRECONDITION,
                    f"none of the {dropped:,} products can be embedded again, and a catalog is never emptied. It is"
                    " unchanged; for an empty catalog choose another --data-dir",
                )
        return products, dropped

    def _unembedded(self, condition: str, limit: int, image: str) -> UnembeddedProducts:
        rows = f"FROM embeddings AS old WHERE {condition}"
        (count,) = self._connection.execute(f"SELECT count(DISTINCT product_id) {rows}").fetchone()
        first = self._connection.execute(
            f"SELECT product_id, min({image}) {rows} GROUP BY product_id ORDER BY product_id LIMIT ?", (limit,)
        ).fetchall()
        return UnembeddedProducts(count, first)

    def _regions(self, image: str) -> Iterator[tuple[ImageKey, EncodedImage]]:
        regions = self._connection.execute(
            f"SELECT DISTINCT {_REGION} FROM embeddings AS old WHERE image = ? AND {_NEEDED} AND NOT {_EMBEDDED}",  # noqa: S608
            (image,),
        ).fetchall()
        (data,) = self._connection.execute("SELECT data FROM images WHERE sha256 = ?", (image,)).fetchone()
        for (text,) in regions:
            region = Region(*json.loads(text)) if text else None
            yield (image, text), EncodedImage(data, region, "image")

    def _drop(self) -> int:
        dropped: int = self._connection.execute(
            f"DELETE FROM products WHERE id IN (SELECT product_id FROM embeddings AS old WHERE NOT {_EMBEDDED})"  # noqa: S608
        ).rowcount
        if dropped:
            self._connection.execute(
                "DELETE FROM images WHERE NOT EXISTS (SELECT 1 FROM embeddings WHERE image = sha256)"
            )
        return dropped

    def _replace(self) -> None:
        """Give every embedding its new vector and a new label, because a label identifies one version of a product."""
        (last,) = self._connection.execute("SELECT coalesce(max(label), 0) FROM embeddings").fetchone()
        page = max(1, min(_PAGE, _PAGE_BYTES // (4 * self._model.dim)))
        after = 0
        while after < last:
            (until,) = self._connection.execute(
                "SELECT max(label) FROM"
                " (SELECT label FROM embeddings WHERE label > ? AND label <= ? ORDER BY label LIMIT ?)",
                (after, last, page),
            ).fetchone()
            # REPLACE deletes the old row, since (product_id, image_index) is unique; AUTOINCREMENT gives the new label.
            self._connection.execute(
                "INSERT OR REPLACE INTO embeddings (product_id, image_index, vector, crc32, image, region)"
                " SELECT product_id, image_index, new.vector, new.crc32, old.image, old.region FROM embeddings AS old"
                " JOIN reembedded AS new ON new.image = old.image AND new.region = coalesce(old.region, '')"
                " WHERE label > ? AND label <= ? ORDER BY label",
                (after, until),
            )
            after = until
        (left,) = self._connection.execute("SELECT count(*) FROM embeddings WHERE label <= ?", (last,)).fetchone()
        if left:
            raise LookalikeError(
                Code.FAILED_PRECONDITION, f"{left} embeddings have no new vector; run the command again"
            )

    def _meta(self, key: str) -> str | None:
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _set(self, key: str, value: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:  # also Ctrl-C
            with suppress(SqliteError):  # after an error of its own SQLite has already rolled back
                self._connection.execute("ROLLBACK")
            raise


@contextmanager
def open_reembedding(folder: Path, model: Model) -> Iterator[Reembedding]:
    """Lock the catalog of `folder` until the end of the block, to convert it to `model`.

    Raises:
        LookalikeError: FAILED_PRECONDITION if there is no catalog, another process uses it, a newer version wrote it,
            or it cannot be read or written, in the block too.
    """
    path = folder / FILE
    if not path.is_file():
        raise LookalikeError(
            Code.FAILED_PRECONDITION, f"{path} does not exist; set --data-dir to the folder of a catalog"
        )
    try:
        with lock_folder(folder), closing(connect(path, "rwc")) as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = 'model_digest'").fetchone()
            digest = model.digest if row is None else row[0]
            wal = Wal(connection)
            prepare(connection, path, replace(model, digest=digest), wal)
            yield Reembedding(connection, wal, model, digest)
            wal.checkpoint()
    except FILE_ERRORS as error:
        raise LookalikeError(
            Code.FAILED_PRECONDITION,
            f"cannot use {path}: {error}. The catalog is unchanged; the same command resumes where this one stopped",
        ) from error
