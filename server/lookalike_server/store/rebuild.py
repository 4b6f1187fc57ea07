"""Another model's embeddings for a whole catalogue: made beside the old ones, put in their place in one transaction.

Until that transaction the catalogue is the old one in every respect, and the old model can serve it. What was made so
far is on disk in the table `rebuilt`, so that a rebuild which died is taken up again; `rebuilding_digest` in `meta`
says which model made it. A picture, or a region of one, is there once however many products show it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from lookalike_server.domain import EncodedPhoto, Floats, Model, Region
from lookalike_server.errors import Code, LookalikeError

# The lock and the steps of the schema are the same for whoever writes: a server, or a rebuild in its place.
from lookalike_server.store.sqlite import FILE, Failure, connect, lock_folder, prepare
from lookalike_server.store.wal import Log

Key: TypeAlias = tuple[str, str]
"""What a vector is made of: a picture's sha256, and the region of it as `embeddings.region` has it ('': all of it)."""

_PAGE = 1000  # rows read or replaced at a time, so that memory does not grow with the catalogue
_PAGE_BYTES = 16 << 20  # of the vectors among what is replaced at a time

# Of the embeddings, which all statements here call `old`.
_PART = "coalesce(old.region, '')"
_LOST = "(picture IS NULL OR NOT EXISTS (SELECT 1 FROM pictures WHERE sha256 = picture))"
_MADE = f"EXISTS (SELECT 1 FROM rebuilt AS made WHERE made.picture = old.picture AND made.region = {_PART})"  # noqa: S608 - constants
# Nothing need be embedded of a product that cannot be embedded whole, unless another one shows the same.
_NEEDED = f"NOT EXISTS (SELECT 1 FROM embeddings WHERE product_id = old.product_id AND {_LOST})"  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Left:
    """Products that cannot have new embeddings: how many; of the first few the id and a picture, where one is kept."""

    count: int
    first: Sequence[tuple[str, str | None]]


class Rebuild:
    """A catalogue that is held while it is rebuilt for another model. One thread uses it."""

    def __init__(self, connection: Any, log: Log, model: Model, digest: str) -> None:
        """Take the only connection that writes, its log, the new model, and the digest of the catalogue's own."""
        self._connection = connection
        self._log = log
        self._model = model
        self.digest = digest

    def begin(self) -> None:
        """Say for which model it is rebuilt; what another one had made is forgotten."""
        with self._transaction():
            if self._meta("rebuilding_digest") != self._model.digest:
                self._connection.execute("DELETE FROM rebuilt")
                self._set("rebuilding_digest", self._model.digest)

    def without_picture(self, few: int) -> Left:
        """The products with an embedding whose picture is not kept; the pictures of the first `few` are None."""
        return self._left(_LOST, few, "NULL")

    def not_made(self, few: int) -> Left:
        """The products with an embedding that the new model has made no counterpart of."""
        return self._left(f"NOT {_MADE}", few, "picture")

    def counts(self) -> tuple[int, int]:
        """How many vectors are made already, and how many it takes in all."""
        distinct = f"SELECT count(*) FROM (SELECT DISTINCT picture, {_PART} FROM embeddings AS old WHERE {_NEEDED}"  # noqa: S608
        (of,) = self._connection.execute(f"{distinct})").fetchone()
        (done,) = self._connection.execute(f"{distinct} AND {_MADE})").fetchone()
        return done, of

    def pending(self) -> Iterator[tuple[Key, EncodedPhoto]]:
        """What is still to be embedded, by sha256; `keep` may be called meanwhile."""
        after = ""
        while True:
            page = self._connection.execute(
                "SELECT DISTINCT picture FROM embeddings AS old"  # noqa: S608 - constants
                f" WHERE picture > ? AND {_NEEDED} AND NOT {_MADE} ORDER BY picture LIMIT ?",
                (after, _PAGE),
            ).fetchall()
            if not page:
                return
            for (picture,) in page:
                yield from self._parts(picture)
            after = page[-1][0]

    def keep(self, keys: Sequence[Key], vectors: Floats) -> None:
        """Store what the new model made, float32 [n, dim]; on return it is on disk."""
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO rebuilt (picture, region, vector) VALUES (?, ?, ?)",
                [(*key, vector.astype("<f4").tobytes()) for key, vector in zip(keys, vectors, strict=True)],
            )
        if self._log.wrote(2 * vectors.nbytes):
            self._log.checkpoint()

    def finish(self, *, drop: bool) -> tuple[int, int]:
        """Make the catalogue the new model's, in one transaction: all of it, or nothing.

        Args:
            drop: Remove the products that the new model has not made every embedding of.

        Returns:
            How many products there are now, and how many were removed.

        Raises:
            LookalikeError: FAILED_PRECONDITION when there are such products and they are not to be removed, or no other
                would be left: then the model or its photos are at fault, not the products.
        """
        with self._transaction():
            dropped = self._drop() if drop else 0
            self._replace()
            # The index's files are a cache of the old vectors.
            self._connection.execute("DELETE FROM segments")
            self._connection.execute("DELETE FROM rebuilt")
            self._connection.execute("DELETE FROM meta WHERE key = 'rebuilding_digest'")
            self._set("model_digest", self._model.digest)
            (products,) = self._connection.execute("SELECT count(*) FROM products").fetchone()
            if dropped and not products:
                raise LookalikeError(
                    Code.FAILED_PRECONDITION,
                    f"none of the {dropped:,} products can be embedded anew, and all of them are never removed. The"
                    " catalogue is as it was; to begin an empty one name another --data folder",
                )
        return products, dropped

    def _left(self, condition: str, few: int, picture: str) -> Left:
        rows = f"FROM embeddings AS old WHERE {condition}"
        (count,) = self._connection.execute(f"SELECT count(DISTINCT product_id) {rows}").fetchone()
        first = self._connection.execute(
            f"SELECT product_id, min({picture}) {rows} GROUP BY product_id ORDER BY product_id LIMIT ?", (few,)
        ).fetchall()
        return Left(count, first)

    def _parts(self, picture: str) -> Iterator[tuple[Key, EncodedPhoto]]:
        regions = self._connection.execute(
            f"SELECT DISTINCT {_PART} FROM embeddings AS old WHERE picture = ? AND {_NEEDED} AND NOT {_MADE}",  # noqa: S608
            (picture,),
        ).fetchall()
        (data,) = self._connection.execute("SELECT data FROM pictures WHERE sha256 = ?", (picture,)).fetchone()
        for (text,) in regions:
            region = Region(*json.loads(text)) if text else None
            yield (picture, text), EncodedPhoto(data, region, "picture")

    def _drop(self) -> int:
        dropped: int = self._connection.execute(
            f"DELETE FROM products WHERE id IN (SELECT product_id FROM embeddings AS old WHERE NOT {_MADE})"  # noqa: S608
        ).rowcount
        if dropped:
            self._connection.execute(
                "DELETE FROM pictures WHERE NOT EXISTS (SELECT 1 FROM embeddings WHERE picture = sha256)"
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
                "INSERT OR REPLACE INTO embeddings (product_id, image_index, vector, picture, region)"
                " SELECT product_id, image_index, made.vector, old.picture, old.region FROM embeddings AS old"
                " JOIN rebuilt AS made ON made.picture = old.picture AND made.region = coalesce(old.region, '')"
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
def rebuilding(folder: Path, model: Model) -> Iterator[Rebuild]:
    """Hold the catalogue of `folder` to rebuild it for `model`, until the end of the block.

    Raises:
        LookalikeError: FAILED_PRECONDITION when there is none, a server or another rebuild has it, it is of a newer
            version, or it cannot be read or written; in the block too.
    """
    path = folder / FILE
    if not path.is_file():
        raise LookalikeError(Code.FAILED_PRECONDITION, f"{path} is not there; name the --data folder of a catalogue")
    try:
        with lock_folder(folder), closing(connect(path, "rwc")) as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = 'model_digest'").fetchone()
            digest = model.digest if row is None else row[0]
            log = Log(connection)
            prepare(connection, path, replace(model, digest=digest), log)
            yield Rebuild(connection, log, model, digest)
            log.checkpoint()
    except (OSError, Failure) as error:
        raise LookalikeError(
            Code.FAILED_PRECONDITION,
            f"cannot use {path}: {error}. The catalogue is as it was; the same command goes on where this one stopped",
        ) from error
