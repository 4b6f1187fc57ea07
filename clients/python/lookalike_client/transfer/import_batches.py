"""Turns the rows of a catalog into batches ready to send: images read, repeats and known products left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from lookalike_client.inputs import ProductInput
from lookalike_client.transfer.catalog_csv import CatalogFile, CatalogRow, FailedRow

MAX_BATCH_BYTES = 32 * 1024 * 1024
"""Images or vectors in a batch; half of what a message may hold, so that one large image more still fits."""

MAX_IMAGE_BYTES = 31 * 1024 * 1024
"""The largest image sent at all."""

_MAX_ROWS = 1000

T = TypeVar("T")


@dataclass(slots=True)
class Prepared:
    """A product ready to send, and the number of the row that it comes from."""

    number: int
    product: ProductInput


@dataclass(slots=True)
class Batch:
    """Consecutive rows: the ones to send, the ones that failed already, and how many were left out."""

    ready: list[Prepared] = field(default_factory=list)
    failed: list[FailedRow] = field(default_factory=list)
    skipped: int = 0
    payload_bytes: int = 0

    @property
    def rows(self) -> int:
        """Rows that it deals with."""
        return len(self.ready) + len(self.failed) + self.skipped

    def is_full(self, size: int) -> bool:
        """Whether it should go out; also when it has little to send, so that progress is seen."""
        return len(self.ready) >= size or self.payload_bytes >= MAX_BATCH_BYTES or self.rows >= _MAX_ROWS


class Source(Protocol):
    """Where the products of an import come from."""

    @property
    def unit(self) -> str:
        """What is counted, in the plural: "rows", say."""

    def count(self, limit: int | None) -> int:
        """How many there are, or `limit` if there are more.

        Raises:
            CatalogError: They cannot be read.
        """

    def batches(self, *, size: int, limit: int | None, existing: set[str]) -> Iterator[Batch]:
        """Batches of at most `size` products of the first `limit`, without the `existing` ones; reads files.

        Raises:
            CatalogError: They cannot be read on.
        """


@dataclass(frozen=True)
class ImageRows:
    """The rows of a catalog's CSV with their images."""

    catalog: CatalogFile
    unit: str = "rows"

    def count(self, limit: int | None) -> int:
        """As `CatalogFile.count`."""
        return self.catalog.count(limit)

    def batches(self, *, size: int, limit: int | None, existing: set[str]) -> Iterator[Batch]:
        """As `read_batches`."""
        return read_batches(self.catalog, size=size, limit=limit, existing=existing)


def read_batches(catalog: CatalogFile, *, size: int, limit: int | None, existing: set[str]) -> Iterator[Batch]:
    """Batches of at most `size` products to send; reads files, so run it in a thread.

    Ids are remembered to find repeats; rows and images are not.

    Args:
        catalog: Where the rows come from.
        size: Products to send in a batch.
        limit: Rows to read at most; None for all.
        existing: Ids to leave out; emptied as they are met.

    Raises:
        CatalogError: The file cannot be read on.
    """
    return fill_batches(catalog.rows(limit), partial(_add, catalog, {}, existing), size)


def fill_batches(rows: Iterable[T], add: Callable[[Batch, T], None], size: int) -> Iterator[Batch]:
    """Batches of rows, each put where it belongs by `add`, with at most `size` products to send."""
    batch = Batch()
    for row in rows:
        add(batch, row)
        if batch.is_full(size):
            yield batch
            batch = Batch()
    if batch.rows:
        yield batch


def _add(
    catalog: CatalogFile,
    first_seen: dict[str, int],
    existing: set[str],
    batch: Batch,
    row: CatalogRow | FailedRow,
) -> None:
    if isinstance(row, FailedRow):
        batch.failed.append(row)
        return
    earlier = first_seen.setdefault(row.product_id, row.number)
    if earlier != row.number:
        batch.failed.append(FailedRow(row.number, row.product_id, f"product_id is in row {earlier} already"))
        return
    if row.product_id in existing:
        existing.discard(row.product_id)
        batch.skipped += 1
        return
    try:
        image = _read_image(catalog, row.image)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        batch.failed.append(FailedRow(row.number, row.product_id, f"image {row.image}: {reason}"))
        return
    batch.payload_bytes += len(image)
    batch.ready.append(Prepared(row.number, _product(row, image)))


def _read_image(catalog: CatalogFile, image: str) -> bytes:
    with (catalog.folder / image).open("rb") as file:
        data = file.read(MAX_IMAGE_BYTES + 1)
    if len(data) > MAX_IMAGE_BYTES:
        raise ValueError(f"larger than {MAX_IMAGE_BYTES // 1024 // 1024} MiB")
    return data


def _product(row: CatalogRow, image: bytes) -> ProductInput:
    return ProductInput(
        id=row.product_id,
        category=row.category,
        title=row.title,
        image_uri=row.image,
        attributes=row.attributes,
        images=(image,),
    )
