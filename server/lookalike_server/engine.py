"""What the server does, each act readable on one screen: embed, find_similar, upsert, delete, and the reads.

Knows nothing of gRPC. Decoding, searching and reading block, so they run in worker pools; the event loop only waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar, TypeVarTuple

import numpy as np

from lookalike_server.domain import (
    Answer,
    Call,
    Category,
    Embedded,
    EmbeddedProduct,
    Floats,
    Metric,
    Model,
    Neighbor,
    Observer,
    Page,
    Photo,
    Pixels,
    Product,
    ProductDraft,
    Query,
    Receipt,
    Rung,
    VectorIndex,
)
from lookalike_server.errors import LookalikeError, not_found
from lookalike_server.inference.batcher import MicroBatcher
from lookalike_server.inference.image import PhotoReader
from lookalike_server.store.sqlite import Store

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@dataclass(frozen=True, slots=True)
class Runtime:
    """How the model runs here."""

    provider: str
    ladder: Sequence[Rung]


class Engine:
    """The stages put together. Every method may raise `LookalikeError`; nothing else is meant for a caller."""

    def __init__(
        self,
        *,
        model: Model,
        runtime: Runtime,
        reader: PhotoReader,
        batcher: MicroBatcher,
        index: VectorIndex,
        store: Store,
        decoders: ThreadPoolExecutor,
        searchers: ThreadPoolExecutor,
        bulk_photos: int,
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        """Take the stages; the composition root builds and closes them.

        Args:
            model: What the model folder says.
            runtime: How it runs.
            reader: Photo to model input.
            batcher: Model input to embedding.
            index: Embedding to products' ids.
            store: Ids to products.
            decoders: Where photos are read.
            searchers: Where the index and the store are asked.
            bulk_photos: How many photos of upserts may be on their way at once, so that questions find room.
            observer: Told of items that fail by a fault of ours.
            clock: The source of moments.
        """
        self.model = model
        self.runtime = runtime
        self._reader = reader
        self._batcher = batcher
        self._index = index
        self._store = store
        self._decoders = decoders
        self._searchers = searchers
        self._bulk = asyncio.Semaphore(bulk_photos)
        self._observer = observer
        self._clock = clock

    async def embed(self, photo: Photo, call: Call) -> Embedded:
        """Embed one photo."""
        embedded = await self._embed(photo, call, category=None)
        return replace(embedded, receipt=self._sign(embedded.receipt, call))

    async def find_similar(self, query: Query, call: Call) -> Answer:
        """Find the products that look most like a photo, a vector or a product."""
        receipt = Receipt()
        vectors: Floats | None = None
        if query.photo is not None:
            embedded = await self._embed(query.photo, call, query.category)
            vectors, receipt = embedded.vector[np.newaxis], embedded.receipt
        elif query.vector is not None:
            vectors = self._unit(query.vector)[np.newaxis]
        started = self._clock()
        neighbors, exact = await self._in(self._searchers, self._search, query, vectors)
        receipt = replace(receipt, search=self._clock() - started, exact=exact)
        return Answer(neighbors, self._sign(receipt, call))

    async def upsert(self, drafts: Sequence[ProductDraft], call: Call) -> list[Exception | None]:
        """Store or replace products; for each its error, or None once it is durable and searchable."""
        return await self._each(self._upsert(draft, call) for draft in drafts)

    async def delete(self, ids: Sequence[str]) -> list[Exception | None]:
        """Remove products; for each its error, or None once it is durably gone."""
        return await self._each(self._delete(product_id) for product_id in ids)

    async def product(self, product_id: str) -> tuple[Product, int]:
        """Read a product and the number of photos it is found by."""
        return await self._in(self._searchers, self._read_product, product_id)

    async def page(self, category: str | None, after: str, size: int) -> Page:
        """Read a page of products; see `Store.page`."""
        return await self._in(self._searchers, self._read_page, category, after, size)

    async def categories(self, *, include_attributes: bool) -> list[Category]:
        """List the categories by name."""
        return await self._in(self._searchers, self._read_categories, include_attributes)

    async def _embed(self, photo: Photo, call: Call, category: str | None) -> Embedded:
        started = self._clock()
        pixels = await self._in(self._decoders, self._read_photo, photo, category)
        decoded = self._clock()
        ran = await self._batcher.embed(pixels, call.deadline)
        receipt = Receipt(
            decode=decoded - started,
            queue=ran.queue,
            inference=ran.inference,
            batch_size=ran.batch_size,
            padded_size=ran.padded_size,
        )
        return Embedded(ran.vector, receipt)

    def _read_photo(self, photo: Photo, category: str | None) -> Pixels:
        # A question nobody can answer should not cost a run of the model.
        self._check_category(category)
        return self._reader.read(photo)

    def _search(self, query: Query, vectors: Floats | None) -> tuple[list[Neighbor], bool]:
        category = query.category
        self._check_category(category)
        if query.product_id is not None:
            product, vectors = self._store_product(query.product_id)
            if category is None and not query.all_categories:
                category = product.category
        assert vectors is not None  # noqa: S101 - a query has a photo, a vector or a product
        found = self._index.search(vectors, query.k, category=category, exclude=query.product_id, exact=query.exact)
        products = self._store.products([hit.product_id for hit in found.hits])
        limit = float("inf") if query.max_distance is None else query.max_distance
        neighbors = [
            Neighbor(
                product=products[hit.product_id],
                distance=hit.distance,
                similarity=self.model.metric.similarity(hit.distance),
                image_index=hit.image_index,
            )
            # A product deleted since the index was asked is no answer.
            for hit in found.hits
            if hit.product_id in products and hit.distance <= limit
        ]
        return neighbors, found.exact

    def _check_category(self, category: str | None) -> None:
        if category is not None and not self._store.has_category(category):
            raise not_found("category", category)

    def _store_product(self, product_id: str) -> tuple[Product, Floats]:
        product = self._store.products([product_id]).get(product_id)
        vectors = self._store.vectors(product_id)
        if product is None or len(vectors) == 0:
            raise not_found("product", product_id)
        return product, vectors

    async def _upsert(self, draft: ProductDraft, call: Call) -> None:
        if draft.vectors:
            vectors = [self._unit(vector) for vector in draft.vectors]
        else:
            vectors = [await self._embed_bulk(photo, call) for photo in draft.photos]
        embedded = EmbeddedProduct(draft.product, np.stack(vectors))
        await asyncio.wrap_future(self._store.upsert(embedded))

    async def _embed_bulk(self, photo: Photo, call: Call) -> Floats:
        async with self._bulk:
            return (await self._embed(photo, call, category=None)).vector

    async def _delete(self, product_id: str) -> None:
        if not await asyncio.wrap_future(self._store.delete(product_id)):
            raise not_found("product", product_id)

    def _read_product(self, product_id: str) -> tuple[Product, int]:
        product, vectors = self._store_product(product_id)
        return product, len(vectors)

    def _read_page(self, category: str | None, after: str, size: int) -> Page:
        self._check_category(category)
        return self._store.page(category, after, size)

    def _read_categories(self, include_attributes: bool) -> list[Category]:
        seen = self._store.attributes_seen() if include_attributes else {}
        return [
            Category(name, count, self._index.kind(name), seen.get(name, ()))
            for name, count in self._store.counts().items()
        ]

    def _unit(self, vector: Floats) -> Floats:
        """Of length 1 where only the direction counts; computed in float64, so that no length over- or underflows."""
        if self.model.metric is not Metric.COSINE:
            return vector
        wide = vector.astype(np.float64)
        unit: Floats = (wide / np.linalg.norm(wide)).astype(np.float32)
        return unit

    def _sign(self, receipt: Receipt, call: Call) -> Receipt:
        return replace(receipt, total=self._clock() - call.arrived, model_digest=self.model.digest)

    @staticmethod
    async def _in(pool: ThreadPoolExecutor, act: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, act, *arguments)

    async def _each(self, acts: Iterable[Coroutine[None, None, None]]) -> list[Exception | None]:
        """Run the acts side by side; for each what it raised, or None. A cancelled caller cancels them all."""
        return list(await asyncio.gather(*map(self._outcome, acts)))

    async def _outcome(self, act: Coroutine[None, None, None]) -> Exception | None:
        try:
            await act
        except LookalikeError as error:
            return error
        except Exception as error:  # noqa: BLE001 - one item's failure, of whatever kind, is not the others'
            self._observer.item_failed(error)
            return error
        return None
