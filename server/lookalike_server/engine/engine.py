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

from lookalike_server.domain.catalog import (
    AttributeUpdate,
    Category,
    EmbeddedProduct,
    IdempotencyKey,
    Page,
    Product,
    ProductDelete,
    ProductUpsert,
    StoredImage,
)
from lookalike_server.domain.errors import LookalikeError, invalid, not_found
from lookalike_server.domain.events import ItemFailed, Observer
from lookalike_server.domain.inference import Call, EmbedResult, Floats, Image, Metric, Model, ResponseStats, Runtime
from lookalike_server.domain.protocols import VectorIndex
from lookalike_server.domain.search import Query, SearchResult
from lookalike_server.engine.api import EngineApi
from lookalike_server.inference.embedder import ImageEmbedder
from lookalike_server.search.coalescer import Coalescer
from lookalike_server.search.retriever import EmbeddedQuery, Found, Retriever, together
from lookalike_server.store.sqlite import Store

_LEARNING_RATE = 0.2  # weight of the newest search in the running cost

_EXPORT_BYTES = 2 * 1024 * 1024
"""Embeddings in a page of an export whose products have one image each; with eight each it is eight times as large."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Engine(EngineApi):
    """The stages put together. Every method may raise `LookalikeError`; nothing else is meant for a caller."""

    def __init__(
        self,
        *,
        model: Model,
        runtime: Runtime,
        embedder: ImageEmbedder,
        index: VectorIndex,
        store: Store,
        searchers: ThreadPoolExecutor,
        bulk_images: int,
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        """Take the stages; the composition root builds and closes them.

        Args:
            model: What the model folder says.
            runtime: How it runs.
            embedder: Image to embedding.
            index: Embedding to products' ids.
            store: Ids to products.
            searchers: Where the index and the store are asked.
            bulk_images: How many images of streams and upserts may be on their way at once, over all callers.
            observer: Told of items that fail by a fault of ours.
            clock: The source of moments.
        """
        self.model = model
        self.runtime = runtime
        self._embedder = embedder
        self._index = index
        self._store = store
        self._searchers = searchers
        self.stream_window = bulk_images
        self._bulk = asyncio.Semaphore(bulk_images)
        self._observer = observer
        self._clock = clock
        self._retriever = Retriever(index, store, model.metric)
        self._searches: Coalescer[EmbeddedQuery, Found | LookalikeError] = Coalescer(
            searchers, together, self._retriever.answer, self._retriever.is_cheap
        )
        self._search_cost = 0.0  # seconds, learned

    async def admit(self, call: Call) -> None:
        """Reject an image that has not been read yet, where it could not be embedded in time."""
        self._embedder.admit(call.deadline)

    async def embed(self, image: Image, call: Call, *, bulk: bool = False) -> EmbedResult:
        """Embed one image."""
        embedded = await self._embed(image, call, bulk=bulk)
        return EmbedResult(embedded.vector, self._complete_stats(embedded.stats, call))

    async def find_similar(self, query: Query, call: Call, *, bulk: bool = False) -> SearchResult:
        """Find the products that look most like an image, a vector or a product."""
        # Before the model runs: a query that nobody can answer should not cost a run.
        self._check_category(query.category)
        stats = ResponseStats()
        vectors: Floats | None = None
        if query.image is not None:
            embedded = await self._embed(query.image, call, bulk=bulk, after=self._search_cost)
            vectors, stats = embedded.vector[np.newaxis], embedded.stats
        elif query.vector is not None:
            vectors = self._unit(query.vector[np.newaxis])
        started = self._clock()
        found = await self._searches.submit(EmbeddedQuery(query, vectors))
        if isinstance(found, LookalikeError):
            raise found
        search = self._clock() - started
        self._search_cost += _LEARNING_RATE * (search - self._search_cost)
        return SearchResult(
            found.neighbors, self._complete_stats(replace(stats, search=search, exact=found.exact), call)
        )

    async def upsert(self, drafts: Sequence[ProductUpsert], call: Call) -> list[Exception | None]:
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
        return [self._rejection(next(stored)) if draft.vectors else next(embedded) for draft in drafts]

    async def delete(self, removals: Sequence[ProductDelete]) -> list[Exception | None]:
        """Remove products; for each its error, or None once it is durably gone."""
        return await self._each(map(self._delete, removals))

    async def update_attributes(self, description: AttributeUpdate) -> Product:
        """Change a product's attributes, and return it as it is then."""
        product_id = description.product_id
        done = self._store.update_attributes(product_id, description.values, description.cleared, description.name)
        if not await asyncio.wrap_future(done):
            raise not_found("product", product_id)
        return (await self.product(product_id))[0]

    def report_internal_error(self, error: Exception) -> None:
        """Report an item's failure, if it is a fault of ours: its caller is told nothing of the inside."""
        if not isinstance(error, LookalikeError):
            self._observer(ItemFailed(error))

    async def product(self, product_id: str) -> tuple[Product, int]:
        """Read a product and the number of images it is found by."""
        return await self._in(self._searchers, self._read_product, product_id)

    async def image(self, product_id: str, image_index: int) -> StoredImage:
        """Read an image of a product as it was sent."""
        return await self._in(self._searchers, self._read_image, product_id, image_index)

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

    async def _embed(self, image: Image, call: Call, *, bulk: bool, after: float = 0.0) -> EmbedResult:
        """Embed an image in time for what comes `after`, in seconds."""
        if not bulk:
            return await self._embedder.embed(image, call.deadline - after)
        async with self._bulk:
            return await self._embedder.embed(image, call.deadline - after, bulk=True)

    def _check_category(self, category: str | None) -> None:
        if category is not None and not self._index.holds(category):
            raise not_found("category", category)

    async def _upsert(self, draft: ProductUpsert, call: Call) -> None:
        if draft.name is not None and await self._in(self._searchers, self._store.done, draft.name):
            return  # a repeat need not be embedded again
        vectors = [(await self._embed(image, call, bulk=True)).vector for image in draft.images]
        images = [await self._embedder.keep(image) for image in draft.images]
        embedded = EmbeddedProduct(draft.product, np.stack(vectors), images)
        await asyncio.wrap_future(self._store.upsert(embedded, draft.name))

    def _ready(self, draft: ProductUpsert) -> tuple[EmbeddedProduct, IdempotencyKey | None]:
        return EmbeddedProduct(draft.product, self._unit(np.stack(draft.vectors))), draft.name

    def _rejection(self, outcome: object) -> Exception | None:
        if not isinstance(outcome, Exception):
            return None
        self.report_internal_error(outcome)
        return outcome

    async def _delete(self, removal: ProductDelete) -> None:
        if not await asyncio.wrap_future(self._store.delete(removal.product_id, removal.name)):
            raise not_found("product", removal.product_id)

    def _read_image(self, product_id: str, image_index: int) -> StoredImage:
        image = self._store.image(product_id, image_index)
        if image is not None:
            return image
        images = len(self._retriever.product(product_id)[1])
        if image_index >= images:
            raise invalid("image_index", f"is {image_index}; the product has {images} images, counted from 0")
        raise not_found("image", f"{product_id}/{image_index}")

    def _read_product(self, product_id: str) -> tuple[Product, int]:
        product, vectors = self._retriever.product(product_id)
        return product, len(vectors)

    def _read_page(self, category: str | None, after: str, size: int) -> Page:
        self._check_category(category)
        return self._store.page(category, after, size)

    def _read_categories(self, include_attributes: bool) -> list[Category]:
        seen = self._store.attribute_facets() if include_attributes else {}
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

    def _complete_stats(self, stats: ResponseStats, call: Call) -> ResponseStats:
        return replace(stats, total=self._clock() - call.arrived, model_digest=self.model.digest)

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
            self.report_internal_error(error)
            return error
        return None
