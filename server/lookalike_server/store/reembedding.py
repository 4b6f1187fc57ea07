"""Another model's embeddings for a whole catalog: made beside the old ones, put in their place in one transaction.

Until that transaction the catalog is the old one in every respect, and the old model can serve it. What was made so
far is on disk in the table `reembedded`, so that a rebuild which died is taken up again; `reembedding_digest` in `meta`
says which model made it. An image, or a region of one, is there once however many products show it.
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

# The lock and the steps of the schema are the same for whoever writes: a server, or a rebuild in its place.
from lookalike_server.store.sqlite import FILE, Failure, connect, lock_folder, prepare
from lookalike_server.store.wal import Wal

Key: TypeAlias = tuple[str, str]
"""What a vector is made of: an image's sha256, and the region of it as `embeddings.region` has it ('': all of it)."""

_PAGE = 1000  # rows read or replaced at a time, so that memory does not grow with the catalog
_PAGE_BYTES = 16 << 20  # of the vectors among what is replaced at a time

# Of the embeddings, which all statements here call `old`.
_PART = "coalesce(old.region, '')"
_LOST = "(image IS NULL OR NOT EXISTS (SELECT 1 FROM images WHERE sha256 = image))"
_MADE = f"EXISTS (SELECT 1 FROM reembedded AS made WHERE made.image = old.image AND made.region = {_PART})"  # noqa: S608 - constants
# Nothing need be embedded of a product that cannot be embedded whole, unless another one shows the same.
_NEEDED = f"NOT EXISTS (SELECT 1 FROM embeddings WHERE product_id = old.product_id AND {_LOST})"  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Left:
    """Products that cannot have new embeddings: how many; of the first few the id and an image, where one is kept."""

    count: int
    first: Sequence[tuple[str, str | None]]


class Reembedding:
    """A catalog that is held while it is rebuilt for another model. One thread uses it."""

    def __init__(self, connection: Any, log: Wal, model: Model, digest: str) -> None:
        """Take the only connection that writes, its log, the new model, and the digest of the catalog's own."""
        self._connection = connection
        self._log = log
        self._model = model
        self.digest = digest

    def begin(self) -> None:
        """Say for which model it is rebuilt; what another one had made is forgotten."""
        with self._transaction():
            if self._meta("reembedding_digest") != self._model.digest:
                self._connection.execute("DELETE FROM reembedded")
                self._set("reembedding_digest", self._model.digest)

    def without_image(self, few: int) -> Left:
        """The products with an embedding whose image is not kept; the images of the first `few` are None."""
        return self._left(_LOST, few, "NULL")

    def not_made(self, few: int) -> Left:
        """The products with an embedding that the new model has made no counterpart of."""
        return self._left(f"NOT {_MADE}", few, "image")

    def counts(self) -> tuple[int, int]:
        """How many vectors are made already, and how many it takes in all."""
        distinct = f"SELECT count(*) FROM (SELECT DISTINCT image, {_PART} FROM embeddings AS old WHERE {_NEEDED}"  # noqa: S608
        (of,) = self._connection.execute(f"{distinct})").fetchone()
        (done,) = self._connection.execute(f"{distinct} AND {_MADE})").fetchone()
        return done, of

    def pending(self) -> Iterator[tuple[Key, EncodedImage]]:
        """What is still to be embedded, by sha256; `keep` may be called meanwhile."""
        after = ""
        while True:
            page = self._connection.execute(
                "SELECT DISTINCT image FROM embeddings AS old"  # noqa: S608 - constants
                f" WHERE image > ? AND {_NEEDED} AND NOT {_MADE} ORDER BY image LIMIT ?",
                (after, _PAGE),
            ).fetchall()
            if not page:
                return
            for (image,) in page:
                yield from self._parts(image)
            after = page[-1][0]

    def keep(self, keys: Sequence[Key], vectors: Floats) -> None:
        """Store what the new model made, float32 [n, dim]; on return it is on disk."""
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO reembedded (image, region, vector) VALUES (?, ?, ?)",
                [(*key, vector.astype("<f4").tobytes()) for key, vector in zip(keys, vectors, strict=True)],
            )
        if self._log.wrote(2 * vectors.nbytes):
            self._log.checkpoint()

    def finish(self, *, drop: bool) -> tuple[int, int]:
        """Make the catalog the new model's, in one transaction: all of it, or nothing.

        Args:
            drop: Remove the products that the new model has not made every embedding of.

        Returns:
            How many products there are now, and how many were removed.

        Raises:
            LookalikeError: FAILED_PRECONDITION when there are such products and they are not to be removed, or no other
                would be left: then the model or its images are at fault, not the products.
        """
        with self._transaction():
            dropped = self._drop() if drop else 0
            self._replace()
            # The index's files are a cache of the old vectors.
            self._connection.execute("DELETE FROM segments")
            self._connection.execute("DELETE FROM reembedded")
            self._connection.execute("DELETE FROM meta WHERE key = 'reembedding_digest'")
            self._set("model_digest", self._model.digest)
            (products,) = self._connection.execute("SELECT count(*) FROM products").fetchone()
            if dropped and not products:
                raise LookalikeError(
                    Code.FAILED_PRECONDITION,
                    f"none of the {dropped:,} products can be embedded again, and all of them are never removed. The"
                    " catalog is as it was; to begin an empty one name another --data-dir folder",
                )
        return products, dropped

    def _left(self, condition: str, few: int, image: str) -> Left:
        rows = f"FROM embeddings AS old WHERE {condition}"
        (count,) = self._connection.execute(f"SELECT count(DISTINCT product_id) {rows}").fetchone()
        first = self._connection.execute(
            f"SELECT product_id, min({image}) {rows} GROUP BY product_id ORDER BY product_id LIMIT ?", (few,)
        ).fetchall()
        return Left(count, first)

    def _parts(self, image: str) -> Iterator[tuple[Key, EncodedImage]]:
        regions = self._connection.execute(
            f"SELECT DISTINCT {_PART} FROM embeddings AS old WHERE image = ? AND {_NEEDED} AND NOT {_MADE}",  # noqa: S608
            (image,),
        ).fetchall()
        (data,) = self._connection.execute("SELECT data FROM images WHERE sha256 = ?", (image,)).fetchone()
        for (text,) in regions:
            region = Region(*json.loads(text)) if text else None
            yield (image, text), EncodedImage(data, region, "image")

    def _drop(self) -> int:
        dropped: int = self._connection.execute(
            f"DELETE FROM products WHERE id IN (SELECT product_id FROM embeddings AS old WHERE NOT {_MADE})"  # noqa: S608
        ).rowcount
        if dropped:
            self._connection.execute(
                "DELETE FROM images WHERE NOT EXISTS (SELECT 1 FROM embeddings WHERE image = sha256)"
            )
        return dropped

    def _replace(self) -> None:
        """Give every embedding its new vector under a new label, because a label names one version of a product."""
        (last,) = self._connection.execute("SELECT coalesce(max(label), 0) FROM embeddings").fetchone()
        page = max(1, min(_PAGE, _PAGE_BYTES // (4 * self._model.dim)))
        after = 0
        while after < last:
            (until,) = self._connection.execute(
                "SELECT max(label) FROM"
                " (SELECT label FROM embeddings WHERE label > ? AND label <= ? ORDER BY label LIMIT ?)",
                (after, last, page),
            ).fetchone()
            # The old row makes way, because a product has one of each image index; AUTOINCREMENT gives the label.
            self._connection.execute(
                "INSERT OR REPLACE INTO embeddings (product_id, image_index, vector, image, region)"
                " SELECT product_id, image_index, made.vector, old.image, old.region FROM embeddings AS old"
                " JOIN reembedded AS made ON made.image = old.image AND made.region = coalesce(old.region, '')"
                " WHERE label > ? AND label <= ? ORDER BY label",
                (after, until),
            )
            after = until
        (left,) = self._connection.execute("SELECT count(*) FROM embeddings WHERE label <= ?", (last,)).fetchone()
        if left:
            raise LookalikeError(Code.FAILED_PRECONDITION, f"{left} embeddings have no counterpart of the new model")

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
        except BaseException:  # also when the user stops it
            with suppress(Failure):  # SQLite has rolled back already when the error was its own
                self._connection.execute("ROLLBACK")
            raise


@contextmanager
def open_reembedding(folder: Path, model: Model) -> Iterator[Reembedding]:
    """Hold the catalog of `folder` to rebuild it for `model`, until the end of the block.

    Raises:
        LookalikeError: FAILED_PRECONDITION when there is none, a server or another rebuild has it, it is of a newer
            version, or it cannot be read or written; in the block too.
    """
    path = folder / FILE
    if not path.is_file():
        raise LookalikeError(Code.FAILED_PRECONDITION, f"{path} is not there; name the --data-dir folder of a catalog")
    try:
        with lock_folder(folder), closing(connect(path, "rwc")) as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = 'model_digest'").fetchone()
            digest = model.digest if row is None else row[0]
            log = Wal(connection)
            prepare(connection, path, replace(model, digest=digest), log)
            yield Reembedding(connection, log, model, digest)
            log.checkpoint()
    except (OSError, Failure) as error:
        raise LookalikeError(
            Code.FAILED_PRECONDITION,
            f"cannot use {path}: {error}. The catalog is as it was; the same command goes on where this one stopped",
        ) from error
