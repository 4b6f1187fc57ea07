"""Makes batches to send from the rows of a catalog: reads images, skips existing products, finds repeated ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from lookalike_client.inputs import ProductInput
from lookalike_client.transfer.catalog_csv import CatalogFile, CatalogRow
from lookalike_client.transfer.catalog_error import FailedRow
from lookalike_client.transfer.catalog_images import ImageFolder
from lookalike_client.transfer.stored_products import StoredRow

MAX_BATCH_BYTES = 32 * 1024 * 1024
"""Images or vectors in a batch; half the maximum of a message, so that one more large image still fits."""

_MAX_ROWS = 1000
_MAX_SHOWN = 100

T = TypeVar("T")


@dataclass(slots=True)
class PendingProduct:
    """A product to send.

    Attributes:
        number: The number of its row.
        product: The product.
        stored: What the server has of the row, where that was looked up; it is still to be compared.
    """

    number: int
    product: ProductInput
    stored: StoredRow | None = None


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

    def ids(self) -> Iterator[str]:
        """Yield the ids of all products, also of those that fail; "" where a row has none that can be read.

        Raises:
            CatalogError: They cannot be read.
        """

    def notes(self) -> list[str]:
        """Return sentences for the end of the import, about what was read last."""

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
    """The rows of a catalog's CSV with their images.

    Attributes:
        catalog: The CSV.
        stored: What the server has, by id, to skip rows that have not changed; None: send all. Those whose rows are
            read are removed.
        compare_images: Whether an equal row's image is compared too, and so not skipped here.
    """

    catalog: CatalogFile
    unit: str = "rows"
    stored: MutableMapping[str, StoredRow] | None = None
    compare_images: bool = False

    def count(self, limit: int | None) -> int:
        """Return the number of rows, as `CatalogFile.count`."""
        return self.catalog.count(limit)

    def batches(self, *, size: int, limit: int | None, existing: set[str]) -> Iterator[Batch]:
        """Yield batches of rows, as `Source.batches`; all ids are in memory, to find repeated ones."""
        images = ImageFolder(self.catalog.folder, allow_outside=self.catalog.options.allow_outside)
        return fill_batches(self.catalog.rows(limit), partial(self._add, images, {}, existing), size)

    def ids(self) -> Iterator[str]:
        """Yield the ids of all rows, also of those that fail; empty where a row has none that can be read."""
        return (row.product_id for row in self.catalog.rows())

    def notes(self) -> list[str]:
        """Return what to say about the rows that were read last."""
        return list(self.catalog.notes.lines())

    def _add(
        self,
        images: ImageFolder,
        first_seen: dict[str, int],
        existing: set[str],
        batch: Batch,
        row: CatalogRow | FailedRow,
    ) -> None:
        stored = None if self.stored is None else self.stored.pop(row.product_id, None)
        if isinstance(row, FailedRow):
            batch.failed.append(row)
            return
        earlier = first_seen.setdefault(row.product_id, row.number)
        if earlier != row.number:
            batch.failed.append(FailedRow(row.number, row.product_id, f"product_id is already in row {earlier}"))
            return
        same = stored is not None and not self.compare_images and stored.is_same(_product(row))
        if row.product_id in existing or same:
            existing.discard(row.product_id)
            batch.skipped += 1
            return
        try:
            image = images.read(row.image)
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            batch.failed.append(FailedRow(row.number, row.product_id, f"image {_shortened(row.image)}: {reason}"))
            return
        batch.payload_bytes += len(image)
        batch.ready.append(PendingProduct(row.number, _product(row, image), stored))


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


def _shortened(image: str) -> str:
    # a cell may be the whole image as a data: URL
    return image if len(image) <= _MAX_SHOWN else f"{image[:_MAX_SHOWN]}..."


def _product(row: CatalogRow, *images: bytes) -> ProductInput:
    return ProductInput(
        id=row.product_id,
        category=row.category,
        title=row.title,
        image_uri=row.image,
        attributes=row.attributes,
        images=images,
    )
