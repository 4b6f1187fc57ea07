"""What the stages expect of each other: the model's session, the index, and the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Protocol

from lookalike_server.domain.catalog import (
    AttributeFacet,
    EmbeddedProduct,
    IdempotencyKey,
    IndexChange,
    IndexKind,
    IndexRow,
    Labels,
    Page,
    Product,
    SegmentFile,
    StoredImage,
)
from lookalike_server.domain.filters import Condition
from lookalike_server.domain.inference import Floats, Pixels
from lookalike_server.domain.search import IndexQuery, IndexResult


class Session(Protocol):
    """A loaded model. Several threads may run it at once."""

    @property
    def provider(self) -> str:
        """What runs it: an execution provider of ONNX Runtime, or "OpenVINO"."""

    @property
    def library(self) -> str:
        """The library that runs it and its version, as in "ONNX Runtime 1.32.0"."""

    @property
    def precision(self) -> str:
        """What it computes in: "fp32", "bf16", "fp16" or "int8"."""

    @property
    def fixed_shapes(self) -> bool:
        """Whether every new batch size is expensive, so that batches are padded to a few sizes."""

    @property
    def gains_from_concurrency(self) -> bool:
        """Whether concurrent runs can be faster than one after another."""

    @property
    def in_flight(self) -> int:
        """How many batches it takes at once, computing one while it copies the others; 1 where it takes one."""
        return 1

    def run(self, images: Pixels) -> Floats:
        """Embed uint8 [n, height, width, 3]: float32 [n, dim]."""

    @property
    def asynchronous(self) -> bool:
        """Whether `start` runs batches in threads of the library, so that none of ours waits for them."""
        return False

    def start(self, images: Sequence[Pixels], done: Callable[[Floats | Exception], None]) -> None:
        """Start a run of these images, each uint8 [height, width, 3], and return at once; they are copied before.

        Args:
            images: At most as many as the session was made for.
            done: Called once, in a thread of the library, with float32 [images, dim] or with what the run raised.

        Raises:
            RuntimeError: When as many batches run as the session takes at once, or it is not asynchronous.
        """
        raise RuntimeError(f"{type(self).__name__} starts no run of {len(images)} images for {done}")

    def stage(self, rows: int) -> AbstractContextManager[StagingBuffer] | None:  # noqa: ARG002 - most have none
        """Reserve memory for one batch of up to `rows` images, run at that size; None where any memory will do."""
        return None

    def close(self) -> None:
        """Free what the session holds; nothing may run after it."""
        return


class StagingBuffer(Protocol):
    """Memory in which one batch is assembled, and from which the device copies it.

    Attributes:
        images: uint8 [rows, height, width, 3], filled from the first row on.
    """

    images: Pixels

    def run(self, size: int) -> Floats:
        """Embed the first `size` images: float32 [size, dim], which the caller owns."""


class VectorIndex(Protocol):
    """Nearest products by category. `search` and `kind` may run in any thread while one thread calls `apply`."""

    def apply(self, change: IndexChange) -> None:
        """Apply one committed change; every search that starts after the return sees it."""

    def kind(self, category: str) -> IndexKind:
        """How this category is searched at present."""

    def recall(self, category: str) -> float | None:
        """Return the recent recall of approximate searches of this category, 0 to 1; None where none was measured."""

    def holds(self, category: str) -> bool:
        """Whether any product is in this category; does not block."""

    def is_cheap(self, category: str) -> bool:
        """Whether a search of this category takes about a millisecond and waits for nothing; does not block."""

    def backlog_seconds(self, category: str) -> float:
        """Predict in how many seconds this category can take more rows; 0 where it can now. Does not block.

        A graph does not hold a new row at once, and until then searches compare it exactly. Where too many such rows
        would slow searches, writes of the category are to wait.
        """

    def search(
        self,
        queries: Sequence[IndexQuery],
        *,
        category: str | None,
        exact: bool,
        conditions: Sequence[Condition] = (),
    ) -> list[IndexResult]:
        """Search the products of one category (None: all) that meet the conditions, for each query by itself.

        Where k such products exist, k come back. An unknown category has no hits.
        """


class SegmentManifest(Protocol):
    """Which files of the index can be trusted; the store records that in the catalog's own transactions."""

    def segments(self) -> Mapping[str, list[SegmentFile]]:
        """Return the files of each category, oldest graph first."""

    def replace_segments(self, category: str, files: Sequence[SegmentFile]) -> Future[None]:
        """Trust these files of a category and no others; the future is done once that is durable."""


class RowSource(SegmentManifest, Protocol):
    """What an index is loaded from."""

    def row_counts(self) -> Mapping[str, int]:
        """How many rows each category has."""

    def labels(self, category: str) -> Labels:
        """Return the labels of a category's rows as of one moment, int64 [n]."""

    def rows_with(self, labels: Labels) -> Iterable[IndexRow]:
        """Return the rows that have these labels (int64 [n]), in any order and without their attributes."""

    def attributes(self, category: str) -> Iterable[tuple[int, Mapping[str, str]]]:
        """Return the attributes of a category's rows, each with the row's label, as of one moment and in any order."""

    def rows_of(self, categories: Sequence[str]) -> Iterable[tuple[str, IndexRow]]:
        """Return the rows of some categories, each with its category, as of one moment, in any order."""

    def wait_until_applied(self) -> None:
        """Return once the index has applied everything that was committed before the call."""


class CatalogStore(Protocol):
    """The products, their embeddings and images. Reads block and may run in any thread; writes return futures.

    Writes that are `within` some categories treat products of others as missing, and never replace one (its future then
    has a LookalikeError, PERMISSION_DENIED); None is all categories.
    """

    def upsert(
        self,
        product: EmbeddedProduct,
        idempotency_key: IdempotencyKey | None = None,
        within: frozenset[str] | None = None,
    ) -> Future[None]:
        """Store or replace one product; the future is done once it is durable and searchable."""

    def upsert_all(
        self,
        products: Sequence[tuple[EmbeddedProduct, IdempotencyKey | None]],
        within: frozenset[str] | None = None,
    ) -> Future[list[object]]:
        """Store or replace products, each by itself; the future has the exception of each that was rejected."""

    def delete(
        self,
        product_id: str,
        idempotency_key: IdempotencyKey | None = None,
        within: frozenset[str] | None = None,
    ) -> Future[bool]:
        """Delete one product; the future says whether there was one."""

    def update_attributes(
        self,
        product_id: str,
        attributes: Mapping[str, str],
        clear: Sequence[str],
        idempotency_key: IdempotencyKey | None = None,
        within: frozenset[str] | None = None,
    ) -> Future[bool]:
        """Set and clear attributes of a product; the future says whether there is one."""

    def done(self, idempotency_key: IdempotencyKey) -> bool:
        """Whether the write with this key is done.

        Raises:
            LookalikeError: INVALID_ARGUMENT when another request had the key.
        """

    def products(self, ids: Sequence[str]) -> Mapping[str, Product]:
        """Read products by id; unknown ids are missing from the result."""

    def vectors(self, product_id: str) -> Floats:
        """Read the embeddings of a product: float32 [images, dim], by image index; no rows where there is none.

        One that is damaged is NaN.
        """

    def image(self, product_id: str, image_index: int) -> StoredImage | None:
        """Read an image of a product as it was sent; None where it was not stored."""

    def page(self, category: str | None, after: str, size: int) -> Page:
        """Read `size` products with ids greater than `after`, of one category or of all (None)."""

    def embedded(self, category: str | None, after: str, size: int) -> list[EmbeddedProduct]:
        """Read a page of products as `page` does, with their embeddings; it ends before one that is damaged.

        Raises:
            LookalikeError: DATA_LOSS where that is the first one.
        """

    def counts(self) -> Mapping[str, int]:
        """Count the products of each category, by name."""

    def attribute_facets(self) -> Mapping[str, Sequence[AttributeFacet]]:
        """Count the values of every attribute in every category; reads the whole catalog."""
