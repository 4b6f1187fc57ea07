"""What the services call: the engine in this process (`engine.py`) or in another one (`frontend/ipc_client.py`)."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Sequence
from enum import IntEnum, auto
from typing import Protocol

from lookalike_server.domain.calls import Call
from lookalike_server.domain.catalog import (
    AttributeUpdate,
    Category,
    EmbeddedProduct,
    Page,
    Product,
    ProductDelete,
    ProductUpsert,
    StoredImage,
)
from lookalike_server.domain.inference import EmbedResult, Image, Model, Runtime
from lookalike_server.domain.search import Query, SearchResult


class Work(IntEnum):
    """What is known of a call from its method alone. Integers, whose hash costs nothing."""

    EMBED = auto()
    INFER = auto()
    SEARCH = auto()
    UPSERT = auto()
    WRITE = auto()
    READ = auto()


class ArrivingCall(Protocol):
    """A call that was admitted and is being read."""

    def arrived(self) -> None:
        """Say that it has been read, or that it failed."""


class EngineApi(ABC):
    """Every method may raise `LookalikeError`, which is for the caller; anything else is a fault of the server.

    Attributes:
        model: The model as its folder describes it.
        runtime: How it runs here.
        stream_window: The most items of one stream, or images of one call, in progress at once.
    """

    model: Model
    runtime: Runtime
    stream_window: int

    @abstractmethod
    async def admit(self, work: Work, call: Call) -> ArrivingCall:
        """Admit a call before it is read, or reject it where it could not be answered in time.

        Raises:
            LookalikeError: RESOURCE_EXHAUSTED or DEADLINE_EXCEEDED.
        """

    @abstractmethod
    async def embed(self, image: Image, call: Call, *, bulk: bool = False) -> EmbedResult:
        """Embed one image."""

    async def embed_all(self, images: Iterable[Image], call: Call, *, bulk: bool) -> list[EmbedResult]:
        """Embed all of these images, `stream_window` at a time; the first failure cancels the others and is raised."""
        window = asyncio.Semaphore(self.stream_window)

        async def embed(image: Image) -> EmbedResult:
            try:
                return await self.embed(image, call, bulk=bulk)
            finally:
                window.release()

        try:
            async with asyncio.TaskGroup() as group:
                tasks = []
                for image in images:
                    await window.acquire()
                    tasks.append(group.create_task(embed(image)))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    @abstractmethod
    async def search(self, query: Query, call: Call, *, bulk: bool = False) -> SearchResult:
        """Find the products that look most like an image, a vector or a product."""

    @abstractmethod
    async def upsert(
        self, upserts: Sequence[ProductUpsert], call: Call, *, streamed: bool = False
    ) -> list[Exception | None]:
        """Store or replace products; return for each its error, or None once it is durable and searchable.

        Those of a stream (`streamed`) wait instead of being rejected: the stream is read no further meanwhile.
        """

    @abstractmethod
    async def delete(self, deletes: Sequence[ProductDelete], call: Call) -> list[Exception | None]:
        """Delete products; return for each its error, or None once it is durably gone."""

    @abstractmethod
    async def update_attributes(self, update: AttributeUpdate, call: Call) -> Product:
        """Set and clear attributes of a product, and return the product afterwards."""

    @abstractmethod
    def report_internal_error(self, error: Exception) -> None:
        """Report the failure of an item where it is a fault of the server, which its caller does not see."""

    @abstractmethod
    async def product(self, product_id: str, call: Call) -> tuple[Product, int]:
        """Read a product and its number of images."""

    @abstractmethod
    async def stored_image(self, product_id: str, image_index: int, call: Call) -> StoredImage:
        """Read an image of a product as it was sent."""

    @abstractmethod
    async def page(self, category: str | None, after: str, size: int, call: Call) -> Page:
        """Read `size` products with ids greater than `after`, of one category or of all (None)."""

    async def export(self, category: str | None, after: str, call: Call) -> AsyncIterator[EmbeddedProduct]:
        """Read the products of a category (None: all) with ids greater than `after`, with their embeddings, by id.

        One page is in memory at a time, and nothing is read while the caller holds a product.
        """
        known = False
        while page := await self.export_page(category, after, call, known=known):
            for embedded in page:
                yield embedded
            after, known = page[-1].product.id, True

    @abstractmethod
    async def export_page(self, category: str | None, after: str, call: Call, *, known: bool) -> list[EmbeddedProduct]:
        """Read a page of an export, empty after its end; a category that was `known` may have become empty."""

    @abstractmethod
    async def categories(self, call: Call, *, include_attributes: bool) -> list[Category]:
        """List the categories by name."""
