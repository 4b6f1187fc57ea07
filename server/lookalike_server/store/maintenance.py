"""A copy of the catalog while it is served, and a look at whether everything in it is whole."""

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
from lookalike_server.store.sqlite import FILE, Failure, connect

_MOST_PROBLEMS = 100  # of one kind; a broken file has them by the thousand


def backup(folder: Path, target: Path) -> int:
    """Copy the catalog of `folder`, as it is at one moment, to a new file, and return the number of products in it.

    A server may have the folder and goes on writing meanwhile. The copy is whole or not there.

    Raises:
        LookalikeError: FAILED_PRECONDITION when there is no catalog, the file is there already or cannot be written.
    """
    if target.exists():
        raise LookalikeError(Code.FAILED_PRECONDITION, f"{target} is there already; name a file that is not")
    part = target.with_name(f"{target.name}.part")
    try:
        with closing(_opened(folder)) as source, closing(connect(part, "rwc")) as copy:
            source.backup(copy)  # in one step, so from one moment; readers do not hold up the writer
            (products,) = copy.execute("SELECT count(*) FROM products").fetchone()
            # One file: what a WAL beside it would hold is in it.
            copy.execute("PRAGMA journal_mode = DELETE")
        _sync(part)
        part.rename(target)
        _sync(target.parent)
    except (OSError, Failure) as error:
        part.unlink(missing_ok=True)
        raise LookalikeError(Code.FAILED_PRECONDITION, f"cannot copy the catalog to {target}: {error}") from error
    return int(products)


def verify(folder: Path) -> Iterator[str]:
    """Look through the catalog of `folder`, also while it is served: one sentence for everything that is wrong.

    Raises:
        LookalikeError: FAILED_PRECONDITION when there is no catalog or it cannot be read at all.
    """
    try:
        with closing(_opened(folder)) as connection:
            for check in (_file, _references, _vectors, _attributes, _images):
                for number, problem in enumerate(check(connection)):
                    if number == _MOST_PROBLEMS:
                        yield f"... and more of the kind: {problem}"
                        break
                    yield problem
    except Failure as error:
        yield f"the file cannot be read on: {error}"


def _opened(folder: Path) -> Any:
    path = folder / FILE
    if not path.is_file():
        raise LookalikeError(Code.FAILED_PRECONDITION, f"{path} is not there; name the --data-dir folder of a catalog")
    return connect(path, "ro")


def _file(connection: Any) -> Iterator[str]:
    for (found,) in connection.execute("PRAGMA integrity_check(100)"):
        if found != "ok":
            yield f"file: {found}"


def _references(connection: Any) -> Iterator[str]:
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield f"{table} row {row} names a row of {parent} that is not there"
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
            yield f"embedding {image_index} of {product_id!r} has {len(blob)} bytes, others {length}"
        elif not np.isfinite(np.frombuffer(blob, dtype="<f4")).all():
            yield f"embedding {image_index} of {product_id!r} has a number that is NaN or infinite"


def _attributes(connection: Any) -> Iterator[str]:
    for product_id, text in connection.execute("SELECT id, attributes FROM products"):
        attributes = _parsed(text)
        if not isinstance(attributes, dict) or not all(isinstance(value, str) for value in attributes.values()):
            yield f"the attributes of {product_id!r} are not texts by name"


def _images(connection: Any) -> Iterator[str]:
    for digest, data in connection.execute("SELECT sha256, data FROM images"):
        if hashlib.sha256(data).hexdigest() != digest:
            yield f"image {digest} is not what was stored: its sha256 is another"


def _parsed(text: str) -> object:
    """What a JSON text says; None where it is none."""
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
