"""Backup and verification of a catalog, also while a server uses it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.flushing import flush
from lookalike_server.store.checksums import checksum
from lookalike_server.store.lost_file import why_lost
from lookalike_server.store.migrations import MIGRATIONS
from lookalike_server.store.quick_check import QUICK_SECONDS, quick_problems
from lookalike_server.store.sqlite import FILE, FILE_ERRORS, connect

_MAX_PROBLEMS = 100  # of one kind; a broken file can have thousands


def backup(folder: Path, target: Path) -> int:
    """Copy a consistent snapshot of the catalog in `folder` to a new file, and return its number of products.

    A server may use the folder meanwhile. After an error there is no copy, not even a partial one.

    Raises:
        LookalikeError: FAILED_PRECONDITION if there is no catalog, the file already exists or cannot be written.
    """
    if target.exists():
        raise LookalikeError(Code.FAILED_PRECONDITION, f"{target} already exists; choose another file")
    part = target.with_name(f"{target.name}.part")
    try:
        with closing(_opened(folder)) as source, closing(connect(part, "rwc")) as copy:
            source.backup(copy)  # in one step, hence of one moment; readers do not block the writer
            (products,) = copy.execute("SELECT count(*) FROM products").fetchone()
            # A single file, without a WAL beside it.
            copy.execute("PRAGMA journal_mode = DELETE")
        flush(part)
        part.rename(target)
        flush(target.parent)
    except FILE_ERRORS as error:
        part.unlink(missing_ok=True)
        raise LookalikeError(Code.FAILED_PRECONDITION, f"cannot copy the catalog to {target}: {error}") from error
    return int(products)


def verify(folder: Path, *, quick: bool = False, quick_seconds: float = QUICK_SECONDS) -> Iterator[str]:
    """Check the catalog in `folder`, which a server may use meanwhile, and yield a sentence for every problem.

    Args:
        folder: Of the catalog.
        quick: Check only what takes seconds; see `quick_check`.
        quick_seconds: For which SQLite's part of that may run.

    Raises:
        LookalikeError: FAILED_PRECONDITION if there is no catalog, or a newer version wrote it.
    """
    lost = why_lost(folder)
    if lost is not None:
        yield lost
        return
    with closing(_opened(folder)) as connection:
        version = 0
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except (*FILE_ERRORS, MemoryError) as error:
            yield f"{folder / FILE} cannot be read: {error}"
            return
        if version > len(MIGRATIONS):
            raise LookalikeError(
                Code.FAILED_PRECONDITION,
                f"{folder / FILE} was written by a newer version of lookalike-server; use that version",
            )
        if version < 1:
            yield f"{folder / FILE} is not a catalog: it has no schema version"
            return
        if quick:
            yield from _first_problems("the file", quick_problems(folder, connection, version, quick_seconds))
            return
        columns = _columns(version)
        for what, check in (
            ("the file", _file),
            ("references between tables", _references),
            ("the embeddings", _vectors),
            ("the attributes", _attributes),
            ("the images", _images),
            ("the list of index files", partial(_index_files, folder)),
        ):
            yield from _first_problems(what, check(connection, columns))


def described(folder: Path) -> tuple[int, str | None, bool]:
    """Return a catalog's schema version, the digest of its model (None without one), and whether it has embeddings.

    Raises:
        LookalikeError: FAILED_PRECONDITION if there is no catalog, or it cannot be read.
    """
    try:
        with closing(_opened(folder)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            digest = connection.execute("SELECT value FROM meta WHERE key = 'model_digest'").fetchone()
            has_rows = connection.execute("SELECT 1 FROM embeddings LIMIT 1").fetchone() is not None
    except FILE_ERRORS as error:
        raise LookalikeError(Code.FAILED_PRECONDITION, f"cannot read the catalog in {folder}: {error}") from error
    return int(version), digest[0] if digest else None, has_rows


def row_count(folder: Path) -> int:
    """Count a catalog's embeddings.

    Raises:
        LookalikeError: FAILED_PRECONDITION if there is no catalog, or it cannot be read.
    """
    try:
        with closing(_opened(folder)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM embeddings").fetchone()
    except FILE_ERRORS as error:
        raise LookalikeError(Code.FAILED_PRECONDITION, f"cannot read the catalog in {folder}: {error}") from error
    return int(count)


def _first_problems(what: str, problems: Iterator[str]) -> Iterator[str]:
    try:
        for number, problem in enumerate(problems):
            if number == _MAX_PROBLEMS:
                yield f"... and more problems like this: {problem}"
                return
            yield problem
    except Exception as error:  # noqa: BLE001 - what a damaged file holds can have any type, length and size
        yield f"{what} cannot be read to the end: {str(error) or type(error).__name__}"


@dataclass(frozen=True, slots=True)
class _Columns:
    """What differs between schema versions."""

    images: str
    crc32: str
    has_segments: bool


def _columns(version: int) -> _Columns:
    images = "images"
    if version < 4:
        images = "pictures" if version >= 2 else "(SELECT '' AS sha256, '' AS data LIMIT 0)"  # codespell:ignore
    return _Columns(images, "crc32" if version >= 5 else "NULL", has_segments=version >= 3)


def _opened(folder: Path) -> Any:
    path = folder / FILE
    if not path.is_file():
        raise LookalikeError(
            Code.FAILED_PRECONDITION, f"{path} does not exist; set --data-dir to the folder of a catalog"
        )
    return connect(path, "ro")


def _file(connection: Any, _: _Columns) -> Iterator[str]:
    for (found,) in connection.execute("PRAGMA integrity_check(100)"):
        if found != "ok":
            yield f"file: {found}"


def _references(connection: Any, _: _Columns) -> Iterator[str]:
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield f"{table} row {row} refers to a row of {parent} that does not exist"
    for (product_id,) in connection.execute(
        "SELECT id FROM products WHERE NOT EXISTS (SELECT 1 FROM embeddings WHERE product_id = id)"
    ):
        yield f"product {product_id!r} has no embedding"


def _vectors(connection: Any, columns: _Columns) -> Iterator[str]:
    length = None
    for product_id, image_index, blob, crc32 in connection.execute(
        f"SELECT product_id, image_index, vector, {columns.crc32} FROM embeddings ORDER BY label"  # noqa: S608 - a constant
    ):
        length = length or len(blob)
        if len(blob) != length or length % 4:
            yield f"embedding {image_index} of {product_id!r} has {len(blob)} bytes, others have {length}"
        elif not np.isfinite(np.frombuffer(blob, dtype="<f4")).all():
            yield f"embedding {image_index} of {product_id!r} has a value that is NaN or infinite"
        elif crc32 is not None and checksum(blob) != crc32:
            yield f"embedding {image_index} of {product_id!r} is damaged: its checksum differs"


def _attributes(connection: Any, _: _Columns) -> Iterator[str]:
    for product_id, text in connection.execute("SELECT id, attributes FROM products"):
        attributes = _parse(text)
        if not isinstance(attributes, dict) or not all(isinstance(value, str) for value in attributes.values()):
            yield f"the attributes of {product_id!r} are not a JSON object of strings"


def _images(connection: Any, columns: _Columns) -> Iterator[str]:
    for digest, data in connection.execute(f"SELECT sha256, data FROM {columns.images}"):  # noqa: S608 - a constant
        if hashlib.sha256(data).hexdigest() != digest:
            yield f"image {digest} is damaged: its sha256 differs"


def _index_files(folder: Path, connection: Any, columns: _Columns) -> Iterator[str]:
    """Compare the graphs' files; one that is gone is none, because a server replaces them meanwhile."""
    rows = connection.execute("SELECT category, file, sha256 FROM segments") if columns.has_segments else ()
    for category, name, sha256 in rows:
        try:
            with (folder / "index" / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            continue
        if found != sha256:
            yield f"index/{name} of category {category!r} is damaged: its sha256 differs. The next start rebuilds it"


def _parse(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None
