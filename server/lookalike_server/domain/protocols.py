"""What the stages expect of each other: the model, the index, and whoever watches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Protocol

from lookalike_server.domain.catalog import IndexChange, IndexKind, IndexRow, SegmentFile
from lookalike_server.domain.filters import Condition
from lookalike_server.domain.inference import Floats, Pixels
from lookalike_server.domain.search import IndexQuery, IndexResult


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

    def run(self, images: Pixels) -> Floats:
        """Embed uint8 [n, height, width, 3]: float32 [n, dim]."""

    def stage(self, rows: int) -> AbstractContextManager[Stage] | None:  # noqa: ARG002 - most have none
        """Memory for one batch of up to `rows` images, which runs as so many; None where any memory is as good."""
        return None

    def close(self) -> None:
        """Give back what must be given back; nothing is run after it."""
        return


class Stage(Protocol):
    """Where one batch is put together so that the device can fetch it from there.

    Attributes:
        images: uint8 [rows, height, width, 3], to be filled from the first row on.
    """

    images: Pixels

    def run(self, size: int) -> Floats:
        """Embed the first `size` images: float32 [size, dim], the caller's own."""


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

    def is_cheap(self, category: str) -> bool:
        """Whether a search of this category takes about a millisecond and waits for nothing; at once itself."""

    def search(
        self,
        questions: Sequence[IndexQuery],
        *,
        category: str | None,
        exact: bool,
        conditions: Sequence[Condition] = (),
    ) -> list[IndexResult]:
        """SearchResult queries about the products of one category (None: all) that meet the conditions, each by itself.

        Where k such products exist, k come back. An unknown category has no hits.
        """


class Manifest(Protocol):
    """Which files of the index can be trusted, as the store knows in the catalog's own transactions."""

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
