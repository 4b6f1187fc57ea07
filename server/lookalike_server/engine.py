"""What the server does, each act readable on one screen: embed, find_similar, upsert, delete, and the reads.

Knows nothing of gRPC. Decoding, searching and reading block, so they run in worker pools; the event loop only waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar, TypeVarTuple

import numpy as np

from lookalike_server.acts import Acts
from lookalike_server.domain import (
    Answer,
    Call,
    Category,
    Description,
    Embedded,
    EmbeddedProduct,
    Floats,
    Metric,
    Model,
    Once,
    Page,
    Photo,
    Picture,
    Product,
    ProductDraft,
    Query,
    Receipt,
    Removal,
    Runtime,
)
from lookalike_server.errors import LookalikeError, invalid, not_found
from lookalike_server.fusion import Fusion
from lookalike_server.inference.embedder import PhotoEmbedder
from lookalike_server.protocols import Observer, VectorIndex
from lookalike_server.retrieval import Asked, Found, Retriever, together
from lookalike_server.store.sqlite import Store

_LEARNING_RATE = 0.2  # weight of the newest search in the running cost

_EXPORT_BYTES = 2 * 1024 * 1024
"""Embeddings in a page of an export whose products have one photo each; with eight each it is eight times as large."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Engine(Acts):
    """The stages put together. Every method may raise `LookalikeError`; nothing else is meant for a caller."""

    def __init__(
        self,
        *,
        model: Model,
        runtime: Runtime,
        embedder: PhotoEmbedder,
        index: VectorIndex,
        store: Store,
        searchers: ThreadPoolExecutor,
        bulk_photos: int,
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        """Take the stages; the composition root builds and closes them.

        Args:
            model: What the model folder says.
            runtime: How it runs.
            embedder: Photo to embedding.
            index: Embedding to products' ids.
            store: Ids to products.
            searchers: Where the index and the store are asked.
            bulk_photos: How many photos of streams and upserts may be on their way at once, over all callers.
            observer: Told of items that fail by a fault of ours.
            clock: The source of moments.
        """
        self.model = model
        self.runtime = runtime
        self._embedder = embedder
        self._index = index
        self._store = store
        self._searchers = searchers
        self.stream_window = bulk_photos
        self._bulk = asyncio.Semaphore(bulk_photos)
        self._observer = observer
        self._clock = clock
        self._retriever = Retriever(index, store, model.metric)
        self._searches: Fusion[Asked, Found | LookalikeError] = Fusion(
            searchers, together, self._retriever.answer, self._retriever.is_quick
        )
        self._search_cost = 0.0  # seconds, learnt

    async def admit(self, call: Call) -> None:
        """Refuse a photo that has not been read yet, where it could not be embedded in time."""
        self._embedder.admit(call.deadline)

    async def embed(self, photo: Photo, call: Call, *, bulk: bool = False) -> Embedded:
        """Embed one photo."""
        embedded = await self._embed(photo, call, bulk=bulk)
        return Embedded(embedded.vector, self._sign(embedded.receipt, call))

    async def find_similar(self, query: Query, call: Call, *, bulk: bool = False) -> Answer:
        """Find the products that look most like a photo, a vector or a product."""
        # Before the model runs: a question that nobody can answer should not cost a run.
        self._check_category(query.category)
        receipt = Receipt()
        vectors: Floats | None = None
        if query.photo is not None:
            embedded = await self._embed(query.photo, call, bulk=bulk, after=self._search_cost)
            vectors, receipt = embedded.vector[np.newaxis], embedded.receipt
        elif query.vector is not None:
            vectors = self._unit(query.vector[np.newaxis])
        started = self._clock()
        found = await self._searches.ask(Asked(query, vectors))
        if isinstance(found, LookalikeError):
            raise found
        search = self._clock() - started
        self._search_cost += _LEARNING_RATE * (search - self._search_cost)
        return Answer(found.neighbors, self._sign(replace(receipt, search=search, exact=found.exact), call))

    async def upsert(self, drafts: Sequence[ProductDraft], call: Call) -> list[Exception | None]:
        """Store or replace products; for each its error, or None once it is durable and searchable."""
        ready = [draft for draft in drafts if draft.vectors]
        storing = (
            asyncio.wrap_future(self._store.upsert_all([self._ready(draft) for draft in ready])) if ready else None
        )
        try:
            embedded = iter(await self._each(self._upsert(draft, call) for draft in drafts if not draft.vectors))
            stored = iter(await storing if storing else ())
        finally:
            if storing:
                storing.cancel()  # where the caller gave up
        return [self._refusal(next(stored)) if draft.vectors else next(embedded) for draft in drafts]

    async def delete(self, removals: Sequence[Removal]) -> list[Exception | None]:
        """Remove products; for each its error, or None once it is durably gone."""
        return await self._each(map(self._delete, removals))

    async def describe(self, description: Description) -> Product:
        """Change a product's attributes, and return it as it is then."""
        product_id = description.product_id
        done = self._store.describe(product_id, description.values, description.cleared, description.name)
        if not await asyncio.wrap_future(done):
            raise not_found("product", product_id)
        return (await self.product(product_id))[0]

    def note_fault(self, error: Exception) -> None:
        """Report an item's failure, if it is a fault of ours: its caller is told nothing of the inside."""
        if not isinstance(error, LookalikeError):
            self._observer.item_failed(error)

    async def product(self, product_id: str) -> tuple[Product, int]:
        """Read a product and the number of photos it is found by."""
        return await self._in(self._searchers, self._read_product, product_id)

    async def picture(self, product_id: str, image_index: int) -> Picture:
        """Read a picture of a product as it was sent."""
        return await self._in(self._searchers, self._read_picture, product_id, image_index)

    async def page(self, category: str | None, after: str, size: int) -> Page:
        """Read a page of products; see `Store.page`."""
        return await self._in(self._searchers, self._read_page, category, after, size)

    async def export_page(self, category: str | None, after: str, *, known: bool) -> list[EmbeddedProduct]:
        """Read a page of an export."""
        self._check_category(None if known else category)
        size = max(1, min(1000, _EXPORT_BYTES // (4 * self.model.dim)))
        return await self._in(self._searchers, self._store.embedded, category, after, size)

    async def categories(self, *, include_attributes: bool) -> list[Category]:
        """List the categories by name."""
        return await self._in(self._searchers, self._read_categories, include_attributes)

    async def _embed(self, photo: Photo, call: Call, *, bulk: bool, after: float = 0.0) -> Embedded:
        """Embed a photo in time for what comes `after`, in seconds."""
        if not bulk:
            return await self._embedder.embed(photo, call.deadline - after)
        async with self._bulk:
            return await self._embedder.embed(photo, call.deadline - after, bulk=True)

    def _check_category(self, category: str | None) -> None:
        if category is not None and not self._index.holds(category):
            raise not_found("category", category)

    async def _upsert(self, draft: ProductDraft, call: Call) -> None:
        if draft.name is not None and await self._in(self._searchers, self._store.done, draft.name):
            return  # a repeat need not be embedded again
        vectors = [(await self._embed(photo, call, bulk=True)).vector for photo in draft.photos]
        pictures = [await self._embedder.keep(photo) for photo in draft.photos]
        embedded = EmbeddedProduct(draft.product, np.stack(vectors), pictures)
        await asyncio.wrap_future(self._store.upsert(embedded, draft.name))

    def _ready(self, draft: ProductDraft) -> tuple[EmbeddedProduct, Once | None]:
        return EmbeddedProduct(draft.product, self._unit(np.stack(draft.vectors))), draft.name

    def _refusal(self, outcome: object) -> Exception | None:
        if not isinstance(outcome, Exception):
            return None
        self.note_fault(outcome)
        return outcome

    async def _delete(self, removal: Removal) -> None:
        if not await asyncio.wrap_future(self._store.delete(removal.product_id, removal.name)):
            raise not_found("product", removal.product_id)

    def _read_picture(self, product_id: str, image_index: int) -> Picture:
        picture = self._store.picture(product_id, image_index)
        if picture is not None:
            return picture
        photos = len(self._retriever.product(product_id)[1])
        if image_index >= photos:
            raise invalid("image_index", f"is {image_index}; the product has {photos} photos, counted from 0")
        raise not_found("picture", f"{product_id}/{image_index}")

    def _read_product(self, product_id: str) -> tuple[Product, int]:
        product, vectors = self._retriever.product(product_id)
        return product, len(vectors)

    def _read_page(self, category: str | None, after: str, size: int) -> Page:
        self._check_category(category)
        return self._store.page(category, after, size)

    def _read_categories(self, include_attributes: bool) -> list[Category]:
        seen = self._store.attributes_seen() if include_attributes else {}
        return [
            Category(name, count, self._index.kind(name), self._index.recall(name), seen.get(name, ()))
            for name, count in self._store.counts().items()
        ]

    def _unit(self, vectors: Floats) -> Floats:
        """Each of length 1 where only the direction counts; in float64, so that no length over- or underflows."""
        if self.model.metric is not Metric.COSINE:
            return vectors
        wide = vectors.astype(np.float64)
        unit: Floats = (wide / np.sqrt(np.einsum("ij,ij->i", wide, wide))[:, np.newaxis]).astype(np.float32)
        return unit

    def _sign(self, receipt: Receipt, call: Call) -> Receipt:
        return replace(receipt, total=self._clock() - call.arrived, model_digest=self.model.digest)

    @staticmethod
    async def _in(pool: ThreadPoolExecutor, act: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, act, *arguments)

    async def _each(self, acts: Iterable[Coroutine[None, None, None]]) -> list[Exception | None]:
        """Run the acts side by side; for each what it raised, or None. A cancelled caller cancels them all."""
        outcomes = list(map(self._outcome, acts))
        return list(await asyncio.gather(*outcomes)) if outcomes else []

    async def _outcome(self, act: Coroutine[None, None, None]) -> Exception | None:
        try:
            await act
        except Exception as error:  # noqa: BLE001 - one item's failure, of whatever kind, is not the others'
            self.note_fault(error)
            return error
        return None
