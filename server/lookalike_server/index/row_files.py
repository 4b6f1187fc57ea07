"""Rows on disk, as they are in memory, so that a start maps them instead of reading each from the store.

A label identifies one version of one image, which never changes: what a file says of a label stays right, and which
labels there are the store says. Rows that were added since come from the store, and those that were deleted are not
live. Attributes, which do change, are not in the file.

A file is a head, then the blocks of the matrix at multiples of the page's size. The head has its own digest, that of
the blocks, and the name of the file, so that no file is taken for another. All of it is read and compared before a row
is used: hundreds of megabytes at every start, so that has to be a faster hash than the sha256 in the manifest (see
`trusted_files.py`), which is there for `verify`.
"""

from __future__ import annotations

import io
import json
import math
import mmap
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import xxhash

from lookalike_server.domain.catalog import SegmentFile
from lookalike_server.domain.events import Observer, RowFileFailed, RowFileUnusable
from lookalike_server.domain.inference import Floats
from lookalike_server.index.pacing import Pacing
from lookalike_server.index.row_blocks import check_room, map_file
from lookalike_server.index.row_storage import CHUNK_BYTES, Matrix, Slots, block_rows
from lookalike_server.index.trusted_files import PART, ROWS, TrustedFiles

FORMAT = 1
_MIN_GROWTH = 9 / 8  # of the rows that are worth another file
_PIECE_BYTES = 1 << 20  # that are read at once, into a core's own cache
_LENGTH = 8  # bytes at the beginning that say how long the head is
_BODY = _LENGTH + 16  # where what the digest behind them is of begins


@dataclass(frozen=True, slots=True, eq=False)
class RowColumns:
    """Rows by slot, deleted ones too.

    Attributes:
        labels: int64 [n].
        product_ids: The product of each.
        image_indexes: int32 [n].
        vectors: float32 [n, dim]; the last of its blocks may have room for more.
    """

    labels: Slots
    product_ids: Sequence[str]
    image_indexes: npt.NDArray[np.int32]
    vectors: Matrix


class RowFiles:
    """The files of all categories, one each. Only one thread at a time may load or save that of one category."""

    def __init__(self, files: TrustedFiles, dim: int, min_bytes: int, observer: Observer) -> None:
        """Use those of these files that are rows of `dim` dimensions; fewer bytes are not worth a file."""
        self._files = files
        self._dim = dim
        self._min_bytes = min_bytes
        self._observer = observer
        self._saved: dict[str, int] = {}  # rows, of what was loaded or saved

    def load(self, category: str) -> RowColumns | None:
        """Read the rows of a category; None where there is no usable file."""
        for file in self._files.of(category, ROWS):
            try:
                saved = _read(self._files.folder / file.name, file, self._dim)
            except (OSError, ValueError) as error:
                self._observer(RowFileUnusable(category, file.name, str(error)))
            else:
                self._saved[category] = len(saved.labels)
                return saved
        return None

    def is_due(self, category: str, count: int) -> bool:
        """Return whether so many rows are worth a file that there is not."""
        if 4 * self._dim * count < self._min_bytes:
            return bool(self._files.of(category, ROWS))
        return count > _MIN_GROWTH * self._saved.get(category, 0) or count < self._saved.get(category, 0)

    def save(self, category: str, rows: RowColumns | None, pacing: Pacing) -> None:
        """Make these the rows on disk, or none; errors of the disk or the store are reported and leave them unsaved.

        Raises:
            MaintenanceStopped: The index is closing.
        """
        after: list[SegmentFile] = []
        try:
            if rows is not None and 4 * self._dim * len(rows.labels) >= self._min_bytes:
                after = [self._write(rows, pacing)]
        except OSError as error:
            self._observer(RowFileFailed(error.with_traceback(None)))
            return
        self._files.replace(category, ROWS, after)
        self._saved[category] = len(rows.labels) if rows is not None else 0

    def _write(self, rows: RowColumns, pacing: Pacing) -> SegmentFile:
        check_room(self._files.folder, 4 * self._dim * len(rows.labels))
        return self._files.write(ROWS, lambda file: _write(file, rows, pacing))


def _stride(dim: int) -> int:
    """Return the bytes from the beginning of one block to that of the next."""
    return _padded(4 * dim * block_rows(dim))


def _padded(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _kind(dim: int, name: str) -> dict[str, object]:
    return {
        "format": FORMAT,
        "name": name,
        "dim": dim,
        "block_rows": block_rows(dim),
        "page": mmap.PAGESIZE,
        "byteorder": sys.byteorder,
    }


def _head(rows: RowColumns, name: str) -> bytes:
    digest = xxhash.xxh3_128()
    for chunk in rows.vectors.chunks(_PIECE_BYTES):
        digest.update(chunk.data)
    ids = np.frombuffer(json.dumps(list(rows.product_ids)).encode(), dtype=np.uint8)
    arrays = io.BytesIO()
    for array in (rows.labels, rows.image_indexes, ids, np.frombuffer(digest.digest(), dtype=np.uint8)):
        np.lib.format.write_array(arrays, array, allow_pickle=False)
    body = json.dumps(_kind(rows.vectors.shape[1], name)).encode() + b"\n" + arrays.getvalue()
    return (_BODY + len(body)).to_bytes(_LENGTH, "little") + xxhash.xxh3_128_digest(body) + body


def _write(file: IO[bytes], rows: RowColumns, pacing: Pacing) -> None:
    head, vectors = _head(rows, Path(file.name).name.removesuffix(PART)), rows.vectors
    file.write(head)
    begin = _padded(len(head))
    height, dim = block_rows(vectors.shape[1]), vectors.shape[1]
    slot = 0
    for chunk in vectors.chunks(CHUNK_BYTES):
        pacing.next_piece()
        block, row = divmod(slot, height)
        file.seek(begin + block * _stride(dim) + 4 * dim * row)
        file.write(chunk.data)
        file.flush()
        # Piece by piece, because a commit of the catalog may have to wait for all that is not on the disk yet.
        os.fdatasync(file.fileno())
        slot += len(chunk)


def _read(path: Path, trusted: SegmentFile, dim: int) -> RowColumns:
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size != trusted.size:
            raise ValueError(f"its size is {size} bytes, not {trusted.size}")
        length = int.from_bytes(os.pread(file.fileno(), _LENGTH, 0), "little")
        head = os.pread(file.fileno(), min(length, size), 0)
        if len(head) <= _BODY or xxhash.xxh3_128_digest(head[_BODY:]) != head[_LENGTH:_BODY]:
            raise ValueError("it is damaged: the digest of its head differs")
        opened = io.BytesIO(head[_BODY:])
        kind = json.loads(opened.readline())
        if kind != _kind(dim, trusted.name):
            raise ValueError(f"it was written with other settings: {kind}")
        labels, image_indexes, ids, digest = (np.lib.format.read_array(opened, allow_pickle=False) for _ in range(4))
        begin, count = _padded(length), len(labels)
        # By reading, because an error of the disk in mapped memory is no error but a signal.
        if not count or _digest(file, begin, count, dim) != digest.tobytes():
            raise ValueError("it is damaged: the digest of its rows differs")
        return RowColumns(
            labels, json.loads(ids.tobytes()), image_indexes, Matrix(_map(file, begin, count, dim), 0, count)
        )


def _digest(file: IO[bytes], begin: int, count: int, dim: int) -> bytes:
    digest = xxhash.xxh3_128()
    buffer = memoryview(bytearray(_PIECE_BYTES))
    for first in range(0, count, block_rows(dim)):
        left = 4 * dim * min(block_rows(dim), count - first)
        file.seek(begin + first // block_rows(dim) * _stride(dim))
        while left:
            read = file.readinto(buffer[: min(left, _PIECE_BYTES)])  # type: ignore[attr-defined]
            if not read:
                raise ValueError("it ends too early")
            digest.update(buffer[:read])
            left -= read
    return digest.digest()


def _map(file: IO[bytes], begin: int, count: int, dim: int) -> list[Floats]:
    """Map the blocks; the last one has room for more rows."""
    height, stride = block_rows(dim), _stride(dim)
    blocks = math.ceil(count / height)
    last = count - (blocks - 1) * height
    # The first block may be a smaller one, which is copied when it is full.
    rows = height if blocks > 1 else min(height, last + max(8, last // 8))
    memory = map_file(
        file, begin, (blocks - 1) * stride + 4 * dim * last, (blocks - 1) * stride + _padded(4 * dim * rows)
    )
    return [memory[block * stride :][: 4 * dim * rows].view("<f4").reshape(rows, dim) for block in range(blocks)]
