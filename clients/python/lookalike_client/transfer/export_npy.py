"""Exports to a folder that `lookalike import --vectors` can read.

`vectors.npy` is float32 [n, dim] and `ids.npy` strings [n], with a row for each image of each product; `products.csv`
is a catalog of the products. One product is in memory at a time.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from lookalike_client.transfer.export_writer import ExportError, flush, partial_name, reject_existing
from lookalike_client.transfer.product_spool import ProductSpool
from lookalike_client.types import ExportedProduct

VECTORS, IDS, PRODUCTS = "vectors.npy", "ids.npy", "products.csv"

_IDS_PER_CHUNK = 4096


class NpyWriter:
    """Writes the three files; see `ExportWriter`. Other files in the folder stay.

    Args:
        folder: Where to write; created when missing.
        force: Whether to overwrite the files.

    Raises:
        ExportError: The folder is a file, or one of the files exists.
    """

    def __init__(self, folder: Path, *, force: bool) -> None:
        if folder.exists() and not folder.is_dir():
            raise ExportError(f"{folder} is a file; a NumPy export is a folder of several")
        # moved there in this order: without the vectors, which come last, a folder does not look like an export
        self._paths = [folder / name for name in (PRODUCTS, IDS, VECTORS)]
        if not force:
            reject_existing(self._paths)
        self.notes: Sequence[str] = ()
        self.category_column = ""
        """After `finish`, the column of `products.csv` that has the categories."""
        self._folder = folder
        self._created = not folder.exists()
        self._partial = folder / partial_name("export")
        self._vectors: IO[bytes] | None = None
        self._spool: ProductSpool | None = None
        self._rows = 0
        self._dim = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._vectors is not None:
            self._vectors.close()
        if self._spool is not None:
            self._spool.close()
        shutil.rmtree(self._partial, ignore_errors=True)
        if self._created:
            with suppress(OSError):  # not empty: it has the export
                self._folder.rmdir()

    def add(self, exported: ExportedProduct) -> None:
        """Write one product's vectors, and keep its metadata for the other files."""
        vectors, spool = self._open(exported.vectors.shape[1])
        vectors.write(exported.vectors.astype("<f4", copy=False).tobytes())
        spool.add(exported.product, len(exported.vectors))
        self._rows += len(exported.vectors)

    def finish(self) -> list[Path]:
        """Write the other files, and move all three to their final names."""
        vectors, spool = self._open(self._dim)
        vectors.seek(0)
        vectors.write(_header("<f4", (self._rows, self._dim)))
        flush(vectors)
        _write_ids(self._partial / IDS, spool.ids(), self._rows, spool.longest_id)
        spool.write_csv(self._partial / PRODUCTS)
        self.category_column = spool.category_column()
        if spool.incomplete:
            self.notes = (
                f"{PRODUCTS} lacks some attributes (first of products {', '.join(spool.incomplete)}): a CSV has no"
                " empty values, none with blanks around them, and no attributes named as its own columns;"
                " --format parquet has all",
            )
        # the vectors of an overwritten export must not appear with the new ids
        self._paths[-1].unlink(missing_ok=True)
        for path in self._paths:
            (self._partial / path.name).replace(path)
        return self._paths

    def _open(self, dim: int) -> tuple[IO[bytes], ProductSpool]:
        if self._vectors is None or self._spool is None:
            self._partial.mkdir(parents=True)
            self._spool = ProductSpool(self._partial / "products")
            self._dim = dim
            self._vectors = (self._partial / VECTORS).open("wb")
            # 0 rows, until their number is known
            self._vectors.write(_header("<f4", (0, dim)))
        return self._vectors, self._spool


def _header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return the header of an .npy file; NumPy pads it, so that its length does not depend on the number of rows."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def _write_ids(path: Path, ids: Iterator[str], rows: int, longest: int) -> None:
    dtype = f"<U{longest}"
    with path.open("wb") as file:
        file.write(_header(dtype, (rows,)))
        while chunk := list(islice(ids, _IDS_PER_CHUNK)):
            file.write(np.array(chunk, dtype=dtype).tobytes())
        flush(file)
