"""Makes batches to send from the rows of a catalog: reads images, skips existing products, finds repeated ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from lookalike_client.inputs import ProductInput
from lookalike_client.transfer.catalog_csv import CatalogFile, CatalogRow, FailedRow

MAX_BATCH_BYTES = 32 * 1024 * 1024
"""Images or vectors in a batch; half the maximum of a message, so that one more large image still fits."""

MAX_IMAGE_BYTES = 31 * 1024 * 1024
"""The largest image sent."""

_MAX_ROWS = 1000

T = TypeVar("T")


@dataclass(slots=True)
class PendingProduct:
    """A product to send, and the number of its row."""

    number: int
    product: ProductInput


@dataclass(slots=True)
class Batch:
    """Consecutive rows: products to send, rows that have failed, and the number skipped."""

    ready: list[PendingProduct] = field(default_factory=list)
    failed: list[FailedRow] = field(default_factory=list)
    skipped: int = 0
    payload_bytes: int = 0

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.ready) + len(self.failed) + self.skipped

    def is_full(self, size: int) -> bool:
        """Return whether to send it; also where it has many rows but few products, so that progress shows."""
        return len(self.ready) >= size or self.payload_bytes >= MAX_BATCH_BYTES or self.rows >= _MAX_ROWS


class Source(Protocol):
    """The source of an import's products."""

    @property
    def unit(self) -> str:
        """What is counted, in the plural, for instance "rows"."""

    def count(self, limit: int | None) -> int:
        """Return how many there are, or `limit` if there are more.

        Raises:
            CatalogError: They cannot be read.
        """

    def batches(self, *, size: int, limit: int | None, existing: set[str]) -> Iterator[Batch]:
        """Yield batches of at most `size` products of the first `limit`; reads files, so run it in a thread.

        Args:
            size: The most products to send in a batch.
            limit: The most rows or products to read; None for all.
            existing: Ids to skip; removed as they are found.

        Raises:
            CatalogError: The rest cannot be read.
        """


@dataclass(frozen=True)
class ImageRows:
    """The rows of a catalog's CSV with their images."""

    catalog: CatalogFile
    unit: str = "rows"

    def count(self, limit: int | None) -> int:
        """Return the number of rows, as `CatalogFile.count`."""
        return self.catalog.count(limit)

    def batches(self, *, size: int, limit: int | None, existing: set[str]) -> Iterator[Batch]:
        """Yield batches of rows, as `Source.batches`; all ids are in memory, to find repeated ones."""
        return fill_batches(self.catalog.rows(limit), partial(_add, self.catalog, {}, existing), size)


def fill_batches(rows: Iterable[T], add: Callable[[Batch, T], None], size: int) -> Iterator[Batch]:
    """Yield batches of rows with at most `size` products to send; `add` sorts a row into a batch."""
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
        batch.failed.append(FailedRow(row.number, row.product_id, f"product_id is already in row {earlier}"))
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
    batch.ready.append(PendingProduct(row.number, _product(row, image)))


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
