"""What the stages expect of each other: the model, the index, and whoever watches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Protocol

from lookalike_server.domain import (
    Floats,
    Hits,
    IndexChange,
    IndexKind,
    IndexRow,
    Pixels,
    Question,
    SegmentFile,
)
from lookalike_server.filters import Condition


class Session(Protocol):
    """A loaded model. Several threads may run it at once."""

    @property
    def provider(self) -> str:
        """The ONNX Runtime provider that runs it."""

    @property
    def fixed_shapes(self) -> bool:
        """Whether every new batch size costs it dearly, so that batches are padded to a few."""

    @property
    def gains_from_lanes(self) -> bool:
        """Whether runs side by side can be faster than one after another."""

    @property
    def in_flight(self) -> int:
        """Batches it takes at once to compute them one after the other, copying one meanwhile; 1 where nothing is."""
        return 1

    def run(self, photos: Pixels) -> Floats:
        """Embed uint8 [n, height, width, 3]: float32 [n, dim]."""

    def stage(self, rows: int) -> AbstractContextManager[Stage] | None:  # noqa: ARG002 - most have none
        """Memory for one batch of up to `rows` photos, which runs as so many; None where any memory is as good."""
        return None

    def close(self) -> None:
        """Give back what must be given back; nothing is run after it."""
        return


class Stage(Protocol):
    """Where one batch is put together so that the device can fetch it from there.

    Attributes:
        photos: uint8 [rows, height, width, 3], to be filled from the first row on.
    """

    photos: Pixels

    def run(self, size: int) -> Floats:
        """Embed the first `size` photos: float32 [size, dim], the caller's own."""


class VectorIndex(Protocol):
    """Nearest products by category. `search` and `kind` may run in any thread beside one thread that calls `apply`."""

    def apply(self, change: IndexChange) -> None:
        """Take in one committed change; it is visible to every search that starts after the return."""

    def kind(self, category: str) -> IndexKind:
        """How this category is searched at present."""

    def recall(self, category: str) -> float | None:
        """The share of exact answers that its approximate ones had of late, 0 to 1; None where none was compared."""

    def holds(self, category: str) -> bool:
        """Whether any product is in this category; at once, without asking a disk or a network."""

    def is_quick(self, category: str) -> bool:
        """Whether a search of this category takes about a millisecond and waits for nothing; at once itself."""

    def search(
        self,
        questions: Sequence[Question],
        *,
        category: str | None,
        exact: bool,
        conditions: Sequence[Condition] = (),
    ) -> list[Hits]:
        """Answer questions about the products of one category (None: all) that meet the conditions, each by itself.

        Where k such products exist, k come back. An unknown category has no hits.
        """


class Manifest(Protocol):
    """Which files of the index can be trusted, as the store knows in the catalogue's own transactions."""

    def segments(self) -> Mapping[str, list[SegmentFile]]:
        """The files of each category, oldest graph first."""

    def keep_segments(self, category: str, files: Sequence[SegmentFile]) -> Future[None]:
        """Trust these files of a category and no others; the future is done once that is durable."""


class RowSource(Manifest, Protocol):
    """What an index is made from."""

    def row_counts(self) -> Mapping[str, int]:
        """How many rows each category has."""

    def rows(self, category: str) -> Iterable[IndexRow]:
        """The rows of a category as they are at one moment, in any order."""

    def wait_until_applied(self) -> None:
        """Return once the index has heard of everything that was committed before the call."""


class Observer(Protocol):
    """Hears what the stages do, so that metrics, logs and tests need no code of their own in them."""

    def batch_ran(self, size: int, padded: int, seconds: float) -> None:
        """The model ran a batch of `size` photos in `padded` rows."""

    def batch_failed(self, size: int, error: Exception) -> None:
        """The model raised; the callers of this batch were told."""

    def entries_dropped(self, cancelled: int, expired: int) -> None:
        """Photos left the queue before the model saw them."""

    def search_fell_back(self, category: str) -> None:
        """An HNSW graph gave too few rows or failed, and the exact search answered in its place."""

    def category_loaded(self, category: str, products: int, left: int) -> None:
        """The index read a category from the store; so many are left."""

    def graph_built(self, category: str, products: int) -> None:
        """A graph of a category was built or grown, or its dead rows were left behind."""

    def index_care_failed(self, category: str, error: Exception) -> None:
        """A category could not be loaded or cared for; where it is loaded, it is searched as it is."""

    def index_file_unusable(self, category: str, file: str, reason: str) -> None:
        """A file of the index is missing, damaged or not for these settings; its graph is built anew."""

    def index_file_failed(self, category: str, error: Exception) -> None:
        """A file of the index could not be written or given up; a start will build its graph anew."""

    def recall_measured(self, category: str, recall: float) -> None:
        """A search that a graph had answered was repeated exactly, and this share of the truth had been found."""

    def item_failed(self, error: Exception) -> None:
        """One item of a request failed by a fault of ours; its caller was told no more than that."""

    def photo_reused(self, *, cached: bool) -> None:
        """A photo's embedding was in the cache, or (not `cached`) the same photo was on its way already."""

    def call_ended(self, method: str, code: str, seconds: float, request_id: str, fault: Exception | None) -> None:
        """A call was answered with this code; `fault` is set where the cause is ours and was kept from the caller."""
