"""Backup and verification of a catalog, also while a server uses it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.store.sqlite import FILE, SqliteError, connect

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
        _sync(part)
        part.rename(target)
        _sync(target.parent)
    except (OSError, SqliteError) as error:
        part.unlink(missing_ok=True)
        raise LookalikeError(Code.FAILED_PRECONDITION, f"cannot copy the catalog to {target}: {error}") from error
    return int(products)


def verify(folder: Path) -> Iterator[str]:
    """Check the catalog in `folder`, which a server may use meanwhile, and yield a sentence for every problem.

    Raises:
        LookalikeError: FAILED_PRECONDITION if there is no catalog.
    """
    try:
        with closing(_opened(folder)) as connection:
            for check in (_file, _references, _vectors, _attributes, _images):
                for number, problem in enumerate(check(connection)):
                    if number == _MAX_PROBLEMS:
                        yield f"... and more problems like this: {problem}"
                        break
                    yield problem
    except SqliteError as error:
        yield f"the file cannot be read any further: {error}"


def _opened(folder: Path) -> Any:
    path = folder / FILE
    if not path.is_file():
        raise LookalikeError(
            Code.FAILED_PRECONDITION, f"{path} does not exist; set --data-dir to the folder of a catalog"
        )
    return connect(path, "ro")


def _file(connection: Any) -> Iterator[str]:
    for (found,) in connection.execute("PRAGMA integrity_check(100)"):
        if found != "ok":
            yield f"file: {found}"


def _references(connection: Any) -> Iterator[str]:
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield f"{table} row {row} refers to a row of {parent} that does not exist"
    for (product_id,) in connection.execute(
        "SELECT id FROM products WHERE NOT EXISTS (SELECT 1 FROM embeddings WHERE product_id = id)"
    ):
        yield f"product {product_id!r} has no embedding"


def _vectors(connection: Any) -> Iterator[str]:
    length = None
    for product_id, image_index, blob in connection.execute(
        "SELECT product_id, image_index, vector FROM embeddings ORDER BY label"
    ):
        length = length or len(blob)
        if len(blob) != length or length % 4:
            yield f"embedding {image_index} of {product_id!r} has {len(blob)} bytes, others have {length}"
        elif not np.isfinite(np.frombuffer(blob, dtype="<f4")).all():
            yield f"embedding {image_index} of {product_id!r} has a value that is NaN or infinite"


def _attributes(connection: Any) -> Iterator[str]:
    for product_id, text in connection.execute("SELECT id, attributes FROM products"):
        attributes = _parse(text)
        if not isinstance(attributes, dict) or not all(isinstance(value, str) for value in attributes.values()):
            yield f"the attributes of {product_id!r} are not a JSON object of strings"


def _images(connection: Any) -> Iterator[str]:
    for digest, data in connection.execute("SELECT sha256, data FROM images"):
        if hashlib.sha256(data).hexdigest() != digest:
            yield f"image {digest} is damaged: its sha256 differs"


def _parse(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
