"""Exports to a folder that `lookalike import --vectors` takes back.

`vectors.npy` is float32 [n, dim] and `ids.npy` strings [n], a row for each image of each product; `products.csv` is a
catalog of the products. One product is in memory at a time.
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
from lookalike_client.types import Exported

VECTORS, IDS, PRODUCTS = "vectors.npy", "ids.npy", "products.csv"

_IDS_AT_ONCE = 4096


class NpyWriter:
    """Writes the three files; see `ExportWriter`. What else is in the folder stays.

    Args:
        folder: Where they will be; made when missing.
        force: Whether to overwrite them.

    Raises:
        ExportError: The folder is a file, or one of the files exists.
    """

    def __init__(self, folder: Path, *, force: bool) -> None:
        if folder.exists() and not folder.is_dir():
            raise ExportError(f"{folder} is a file; a NumPy export is a folder of several")
        # in this order they are put there, the vectors last: without them nobody takes it for an export
        self._paths = [folder / name for name in (PRODUCTS, IDS, VECTORS)]
        if not force:
            reject_existing(self._paths)
        self.notes: Sequence[str] = ()
        self.category_column = ""
        """After `finish`, the column of `products.csv` with the categories."""
        self._folder = folder
        self._made = not folder.exists()
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
        if self._made:
            with suppress(OSError):  # it holds the export
                self._folder.rmdir()

    def add(self, exported: Exported) -> None:
        """Write one product's vectors, and keep its facts for the other files."""
        vectors, spool = self._open(exported.vectors.shape[1])
        vectors.write(exported.vectors.astype("<f4", copy=False).tobytes())
        spool.add(exported.product, len(exported.vectors))
        self._rows += len(exported.vectors)

    def finish(self) -> list[Path]:
        """Write the other files, and put all three where they belong."""
        vectors, spool = self._open(self._dim)
        vectors.seek(0)
        vectors.write(_header("<f4", (self._rows, self._dim)))
        flush(vectors)
        _write_ids(self._partial / IDS, spool.ids(), self._rows, spool.longest_id)
        spool.write_csv(self._partial / PRODUCTS)
        self.category_column = spool.category_column()
        if spool.left_out:
            self.notes = (
                f"{PRODUCTS} lacks some attributes (the first are of {', '.join(spool.left_out)}): a CSV cannot hold"
                " empty values, nor attributes named as its own columns; --format parquet holds all",
            )
        # an export that is overwritten must not lend its vectors to the new ids
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
            # says that there are no rows until it is known how many there are
            self._vectors.write(_header("<f4", (0, dim)))
        return self._vectors, self._spool


def _header(kind: str, shape: tuple[int, ...]) -> bytes:
    """What an .npy file begins with; NumPy leaves room for the rows to grow, so its length depends on them not."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


def _write_ids(path: Path, ids: Iterator[str], rows: int, longest: int) -> None:
    kind = f"<U{longest}"
    with path.open("wb") as file:
        file.write(_header(kind, (rows,)))
        while some := list(islice(ids, _IDS_AT_ONCE)):
            file.write(np.array(some, dtype=kind).tobytes())
        flush(file)
