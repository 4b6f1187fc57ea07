"""What the services ask of the engine, be it in this process (`engine/engine.py`) or another one (`frontend/ipc_client.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Protocol

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
from lookalike_server.domain.inference import Call, EmbedResult, Image, Model, Runtime
from lookalike_server.domain.search import Query, SearchResult


class EngineApi(Protocol):
    """Every method may raise `LookalikeError`; nothing else is meant for a caller."""

    model: Model
    runtime: Runtime
    stream_window: int
    """The most items of one stream, or images of one call, on their way at once."""

    async def admit(self, call: Call) -> None:
        """Reject an image that has not been read yet, where it could not be embedded in time.

        Raises:
            LookalikeError: RESOURCE_EXHAUSTED.
        """

    async def embed(self, image: Image, call: Call, *, bulk: bool = False) -> EmbedResult:
        """Embed one image."""

    async def embed_all(self, images: Iterable[Image], call: Call, *, bulk: bool) -> list[EmbedResult]:
        """Embed all of these images or none: the first failure is the call's. They enter by a window, as a stream's."""
        room = asyncio.Semaphore(self.stream_window)

        async def one(image: Image) -> EmbedResult:
            try:
                return await self.embed(image, call, bulk=bulk)
            finally:
                room.release()

        try:
            async with asyncio.TaskGroup() as group:
                tasks = []
                for image in images:
                    await room.acquire()
                    tasks.append(group.create_task(one(image)))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def find_similar(self, query: Query, call: Call, *, bulk: bool = False) -> SearchResult:
        """Find the products that look most like an image, a vector or a product."""

    async def upsert(self, drafts: Sequence[ProductUpsert], call: Call) -> list[Exception | None]:
        """Store or replace products; for each its error, or None once it is durable and searchable."""

    async def delete(self, removals: Sequence[ProductDelete]) -> list[Exception | None]:
        """Remove products; for each its error, or None once it is durably gone."""

    async def update_attributes(self, description: AttributeUpdate) -> Product:
        """Change a product's attributes, and return it as it is then."""

    def report_internal_error(self, error: Exception) -> None:
        """Report an item's failure, if it is a fault of ours: its caller is told nothing of the inside."""

    async def product(self, product_id: str) -> tuple[Product, int]:
        """Read a product and the number of images it is found by."""

    async def image(self, product_id: str, image_index: int) -> StoredImage:
        """Read an image of a product as it was sent."""

    async def page(self, category: str | None, after: str, size: int) -> Page:
        """Read a page of products; see `Store.page`."""

    async def export(self, category: str | None, after: str) -> AsyncIterator[EmbeddedProduct]:
        """Read the products of a category (None: all) with ids greater than `after`, with their embeddings, by id.

        One page is in memory at a time, and none is being read while the caller holds a product.
        """
        known = False
        while page := await self.export_page(category, after, known=known):
            for embedded in page:
                yield embedded
            after, known = page[-1].product.id, True

    async def export_page(self, category: str | None, after: str, *, known: bool) -> list[EmbeddedProduct]:
        """Read a page of an export, empty after its end; the category may be gone where it was `known` before."""

    async def categories(self, *, include_attributes: bool) -> list[Category]:
        """List the categories by name."""
