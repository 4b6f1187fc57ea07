"""What the services ask of the engine, be it in this process (`engine.py`) or another one (`workers/remote.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Protocol

from lookalike_server.domain import (
    Answer,
    Call,
    Category,
    Description,
    Embedded,
    EmbeddedProduct,
    Model,
    Page,
    Photo,
    Picture,
    Product,
    ProductDraft,
    Query,
    Removal,
    Runtime,
)


class Acts(Protocol):
    """Every method may raise `LookalikeError`; nothing else is meant for a caller."""

    model: Model
    runtime: Runtime
    stream_window: int
    """The most items of one stream, or photos of one call, on their way at once."""

    async def admit(self, call: Call) -> None:
        """Refuse a photo that has not been read yet, where it could not be embedded in time.

        Raises:
            LookalikeError: RESOURCE_EXHAUSTED.
        """

    async def embed(self, photo: Photo, call: Call, *, bulk: bool = False) -> Embedded:
        """Embed one photo."""

    async def embed_all(self, photos: Iterable[Photo], call: Call, *, bulk: bool) -> list[Embedded]:
        """Embed all of these photos or none: the first failure is the call's. They enter by a window, as a stream's."""
        room = asyncio.Semaphore(self.stream_window)

        async def one(photo: Photo) -> Embedded:
            try:
                return await self.embed(photo, call, bulk=bulk)
            finally:
                room.release()

        try:
            async with asyncio.TaskGroup() as group:
                tasks = []
                for photo in photos:
                    await room.acquire()
                    tasks.append(group.create_task(one(photo)))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def find_similar(self, query: Query, call: Call, *, bulk: bool = False) -> Answer:
        """Find the products that look most like a photo, a vector or a product."""

    async def upsert(self, drafts: Sequence[ProductDraft], call: Call) -> list[Exception | None]:
        """Store or replace products; for each its error, or None once it is durable and searchable."""

    async def delete(self, removals: Sequence[Removal]) -> list[Exception | None]:
        """Remove products; for each its error, or None once it is durably gone."""

    async def describe(self, description: Description) -> Product:
        """Change a product's attributes, and return it as it is then."""

    def note_fault(self, error: Exception) -> None:
        """Report an item's failure, if it is a fault of ours: its caller is told nothing of the inside."""

    async def product(self, product_id: str) -> tuple[Product, int]:
        """Read a product and the number of photos it is found by."""

    async def picture(self, product_id: str, image_index: int) -> Picture:
        """Read a picture of a product as it was sent."""

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
