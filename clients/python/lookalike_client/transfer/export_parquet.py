"""Exports to one Parquet file: a row for each image of each product, written in row groups.

Columns: `id`, `image_index` (from 0), `category`, `title`, `image_uri`, `attributes` (map of strings to strings) and
`vector` (fixed-size list of float32). Only this needs pyarrow.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from lookalike_client.transfer.export_writer import ExportError, flush, partial_name, reject_existing
from lookalike_client.types import ExportedProduct

GROUP_BYTES = 16 * 1024 * 1024
"""The size of the vectors in a row group, which are in memory."""


class ParquetWriter:
    """Writes one file; see `ExportWriter`.

    Args:
        path: The file.
        force: Whether to overwrite it.

    Raises:
        ExportError: It exists or is a folder, or pyarrow is not installed.
    """

    def __init__(self, path: Path, *, force: bool) -> None:
        if path.is_dir():
            raise ExportError(f"{path} is a folder; a Parquet export is one file")
        if not force:
            reject_existing([path])
        try:
            self._arrow: Any = importlib.import_module("pyarrow")
            self._parquet: Any = importlib.import_module("pyarrow.parquet")
        except ModuleNotFoundError as error:
            raise ExportError(
                "writing Parquet needs pyarrow, which is not installed: pip install 'lookalike-client[parquet]'"
            ) from error
        self.notes: Sequence[str] = ()
        self._path = path
        self._partial = path.parent / partial_name(path.name)
        self._pending: list[ExportedProduct] = []
        self._bytes = 0
        self._schema: Any = None
        self._file: Any = None
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with suppress(OSError):  # on a full disk, its footer cannot be written either
                if self._writer is not None:
                    self._writer.close()
            self._file.close()
            self._partial.unlink(missing_ok=True)

    def add(self, exported: ExportedProduct) -> None:
        """Keep one product until its row group is full, then write the group."""
        if self._writer is None:
            self._open(exported.vectors.shape[1])
        self._pending.append(exported)
        self._bytes += exported.vectors.nbytes
        if self._bytes >= GROUP_BYTES:
            self._write_group()

    def finish(self) -> list[Path]:
        """Write the last row group and the footer, and move the file to its final name."""
        self._write_group()
        self._writer.close()
        flush(self._file)
        self._partial.replace(self._path)
        return [self._path]

    def _open(self, dim: int) -> None:
        arrow = self._arrow
        self._schema = arrow.schema(
            [
                arrow.field("id", arrow.string(), nullable=False),
                arrow.field("image_index", arrow.int32(), nullable=False),
                arrow.field("category", arrow.string(), nullable=False),
                arrow.field("title", arrow.string(), nullable=False),
                arrow.field("image_uri", arrow.string(), nullable=False),
                arrow.field("attributes", arrow.map_(arrow.string(), arrow.string()), nullable=False),
                arrow.field("vector", arrow.list_(arrow.float32(), dim), nullable=False),
            ]
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._partial.open("wb")
        self._writer = self._parquet.ParquetWriter(self._file, self._schema)

    def _write_group(self) -> None:
        if not self._pending:
            return
        arrow = self._arrow
        rows = [(each.product, index) for each in self._pending for index in range(len(each.vectors))]
        vectors = np.concatenate([each.vectors for each in self._pending])
        columns = [
            arrow.array([product.id for product, _ in rows], arrow.string()),
            arrow.array([index for _, index in rows], arrow.int32()),
            arrow.array([product.category for product, _ in rows], arrow.string()),
            arrow.array([product.title for product, _ in rows], arrow.string()),
            arrow.array([product.image_uri for product, _ in rows], arrow.string()),
            arrow.array([sorted(product.attributes.items()) for product, _ in rows], self._schema.field(5).type),
            arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.ravel()), vectors.shape[1]),
        ]
        self._writer.write_batch(arrow.record_batch(columns, schema=self._schema))
        self._pending = []
        self._bytes = 0
