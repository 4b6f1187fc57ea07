"""The operations of the server: embed, search, upsert, delete, and the reads.

Decoding, searching and reading block, so they run in pools of threads; the event loop only waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar, TypeVarTuple

import numpy as np

from lookalike_server.domain.calls import Call
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
from lookalike_server.domain.events import ItemFailed, Observer, SearchPredicted, StageCompleted
from lookalike_server.domain.inference import EmbedResult, Floats, Image, Model, ResponseStats, Runtime
from lookalike_server.domain.observing import receiver
from lookalike_server.domain.protocols import CatalogStore, VectorIndex
from lookalike_server.domain.search import EmbeddedQuery, Query, SearchResult
from lookalike_server.domain.stages import stage
from lookalike_server.engine.admission import IMAGE, NOTHING, SEARCH, Admission, Demand
from lookalike_server.engine.allowed_categories import check_category, narrowed, split_upserts
from lookalike_server.engine.api import ArrivingCall, EngineApi, Work
from lookalike_server.engine.given_vectors import embedded_products, normalized
from lookalike_server.engine.index_backlog import IndexBacklog
from lookalike_server.inference.batcher import MicroBatcher
from lookalike_server.inference.embedder import ImageEmbedder
from lookalike_server.scheduling.fair_queue import FairQueue
from lookalike_server.scheduling.queue_length import QueueLength
from lookalike_server.search.coalescer import Coalescer
from lookalike_server.search.retriever import Retriever, coalescing_key

_LEARNING_RATE = 0.2  # weight of the newest search in the moving average of its duration

_EXPORT_BYTES = 2 * 1024 * 1024
"""Bytes of embeddings in a page of an export whose products have one image each; with eight each, eight times that."""

_WRITES_INSIDE = 192
"""Operations that the store has at once: those of one transaction, of the next one, and of one that is committed and on
its way to the index."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Engine(EngineApi):
    """The stages put together."""

    def __init__(
        self,
        *,
        model: Model,
        runtime: Runtime,
        embedder: ImageEmbedder,
        index: VectorIndex,
        store: CatalogStore,
        decode: FairQueue,
        batcher: MicroBatcher,
        searchers: ThreadPoolExecutor,
        search_threads: int,
        bulk_images: int,
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        """Take the stages; the composition root builds and closes them.

        Args:
            model: The model as its folder describes it.
            runtime: How it runs here.
            embedder: From images to embeddings.
            index: From embeddings to ids of products.
            store: From ids to products.
            decode: The queue in front of the embedder's decoders.
            batcher: The embedder's batcher.
            searchers: The pool in which the index is searched and the store is read.
            search_threads: Its threads.
            bulk_images: The most images of streams and upserts in progress at once, over all callers.
            observer: Receives the failures of items that are faults of the server.
            clock: A monotonic clock.
        """
        self.model = model
        self.runtime = runtime
        self._embedder = embedder
        self._index = index
        self._store = store
        self._searchers = searchers
        self._decode = decode
        self._batcher = batcher
        self.stream_window = bulk_images
        self._search_seconds = 0.0  # a moving average
        self._bulk = FairQueue(bulk_images, clock=clock)
        self._observer = observer
        self._on_stage = receiver(observer, StageCompleted)
        self._on_predicted = receiver(observer, SearchPredicted)
        self._clock = clock
        self._retriever = Retriever(index, store, model.metric)
        self._searches = Coalescer[EmbeddedQuery, SearchResult | LookalikeError](
            searchers,
            coalescing_key,
            self._retriever.search,
            self._retriever.is_cheap,
            slots=search_threads,
            clock=clock,
        )
        self._reads = FairQueue(search_threads, clock=clock)
        self._writes = FairQueue(_WRITES_INSIDE, _WRITES_INSIDE, clock=clock)
        self._backlog = IndexBacklog(index.backlog_seconds, clock)
        self._admission = Admission(
            decode=decode,
            batcher=batcher,
            bulk=self._bulk,
            searches=self._searches,
            reads=self._reads,
            writes=self._writes,
            hits_are_rare=embedder.hits_are_rare,
            clock=clock,
        )

    def __repr__(self) -> str:
        return f"<Engine bulk: {self._bulk!r} reads: {self._reads!r} writes: {self._writes!r}>"

    def queue_lengths(self) -> Mapping[tuple[str, str], QueueLength]:
        """Return what waits in each queue, by its name and class, "interactive" or "bulk"; in any thread."""
        lengths: dict[tuple[str, str], QueueLength] = {}
        lengths["decode", "interactive"], lengths["decode", "bulk"] = self._decode.lengths()
        lengths["inference", "interactive"], lengths["inference", "bulk"] = self._batcher.lengths()
        lengths["bulk", "bulk"], _ = self._bulk.lengths()  # all of it is bulk work, so it has no class of its own
        lengths["search", "interactive"] = self._searches.length()
        lengths["read", "interactive"], _ = self._reads.lengths()
        lengths["write", "interactive"], _ = self._writes.lengths()
        return lengths

    @property
    def decoding_bytes(self) -> int:
        """About how many bytes the images take that are being decoded."""
        return self._decode.units

    async def admit(self, work: Work, call: Call) -> ArrivingCall:
        return self._admission.admit(work, call)

    async def check_admission(self, work: Work, call: Call) -> None:
        """Judge a call that a frontend process is about to read, as `admit` does."""
        self._admission.admit(work, call).arrived()

    async def embed(self, image: Image, call: Call, *, bulk: bool = False) -> EmbedResult:
        demand = self._demand(image, bulk=bulk)
        predicted = self._admission.check(demand, call)
        embedded = await self._embed(image, call, bulk=bulk)
        if predicted:
            self._admission.record_completion(predicted, self._clock() - call.arrived)
        return EmbedResult(embedded.vector, self._complete_stats(embedded.stats, call))

    async def embed_all(self, images: Iterable[Image], call: Call, *, bulk: bool) -> list[EmbedResult]:
        self._admission.record_kind(Work.INFER, call, embeds=not bulk)
        return await super().embed_all(images, call, bulk=bulk)

    async def search(self, query: Query, call: Call, *, bulk: bool = False) -> SearchResult:
        # Before the model runs: a query that cannot be answered should not cost a run.
        if call.categories is not None:
            query = narrowed(query, call.categories)
        self._check_category(query.category)
        if not bulk:
            self._admission.record_kind(Work.SEARCH, call, embeds=query.image is not None)
        demand = SEARCH if query.image is None else self._demand(query.image, bulk=bulk)
        predicted = 0.0 if bulk else self._admission.check(demand, call)
        stats = ResponseStats()
        vectors: Floats | None = None
        if query.image is not None:
            embedded = await self._embed(query.image, call, bulk=bulk, reserve=self._search_seconds)
            vectors, stats = embedded.vector[np.newaxis], embedded.stats
        elif query.vector is not None:
            vectors = normalized(query.vector[np.newaxis], self.model.metric)
        started = self._clock()
        with stage("search", call, self._observer):
            result = await self._searches.submit(EmbeddedQuery(query, vectors), call)
            if isinstance(result, LookalikeError):
                raise result
        seconds = self._clock() - started
        self._search_seconds += _LEARNING_RATE * (seconds - self._search_seconds)
        if self._on_stage is not None:
            self._on_stage(StageCompleted("search", seconds))
        if predicted:
            actual = self._clock() - call.arrived
            if query.image is None and self._on_predicted is not None:
                self._on_predicted(SearchPredicted(actual - self._admission.completion_seconds(predicted)))
            self._admission.record_completion(predicted, actual)
        stats = stats._replace(search=seconds, exact=result.stats.exact)
        return replace(result, stats=self._complete_stats(stats, call))

    async def upsert(
        self, upserts: Sequence[ProductUpsert], call: Call, *, streamed: bool = False
    ) -> list[Exception | None]:
        if call.categories is not None:
            allowed, errors = split_upserts(upserts, call.categories)
            if len(allowed) < len(upserts):
                outcomes = iter(await self.upsert(allowed, call, streamed=streamed) if allowed else [])
                return [next(outcomes) if error is None else error for error in errors]
        if not streamed:
            images = sum(len(each.images) for each in upserts)
            self._admission.check(Demand(bulk_images=images, writes=len(upserts)), call)
        return await self._backlog.store(upserts, call, partial(self._upsert, call), streamed=streamed)

    async def delete(self, deletes: Sequence[ProductDelete], call: Call) -> list[Exception | None]:
        self._admission.check(Demand(writes=len(deletes)), call)
        return await self._each(partial(self._delete, call=call), deletes)

    async def update_attributes(self, update: AttributeUpdate, call: Call) -> Product:
        async with self._writes.enter(call, 1):
            known = await self._written(
                call,
                self._store.update_attributes(
                    update.product_id, update.attributes, update.clear, update.idempotency_key, call.categories
                ),
            )
        if not known:
            raise not_found("product", update.product_id)
        return (await self.product(update.product_id, call))[0]

    def report_internal_error(self, error: Exception) -> None:
        if not isinstance(error, LookalikeError):
            self._observer(ItemFailed(error))

    async def product(self, product_id: str, call: Call) -> tuple[Product, int]:
        return await self._read(call, self._read_product, product_id, call.categories)

    async def stored_image(self, product_id: str, image_index: int, call: Call) -> StoredImage:
        return await self._read(call, self._read_image, product_id, image_index, call.categories)

    async def page(self, category: str | None, after: str, size: int, call: Call) -> Page:
        check_category(category, call.categories)
        return await self._read(call, self._read_page, category, after, size)

    async def export_page(self, category: str | None, after: str, call: Call, *, known: bool) -> list[EmbeddedProduct]:
        check_category(category, call.categories)
        self._check_category(None if known else category)
        size = max(1, min(1000, _EXPORT_BYTES // (4 * self.model.dim)))
        return await self._read(call, self._store.embedded, category, after, size)

    async def categories(self, call: Call, *, include_attributes: bool) -> list[Category]:
        return await self._read(call, self._read_categories, include_attributes, call.categories)

    def _demand(self, image: Image, *, bulk: bool) -> Demand:
        """Say what is to be checked of an image: bulk ones wait, and the batcher judges those that it gets at once."""
        decodes = self._embedder.decodes(image)
        if not bulk:
            self._admission.record_image(decodes=decodes)
        return IMAGE if decodes and not bulk else NOTHING

    def _embed(self, image: Image, call: Call, *, bulk: bool, reserve: float = 0.0) -> Awaitable[EmbedResult]:
        """Embed an image so early that `reserve` seconds are left before the call's deadline."""
        if reserve:
            call = replace(call, deadline=call.deadline - reserve)
        return self._embed_bulk(image, call) if bulk else self._embedder.embed(image, call)

    async def _embed_bulk(self, image: Image, call: Call) -> EmbedResult:
        async with self._bulk.enter(call):
            return await self._embedder.embed(image, call, bulk=True)

    def _check_category(self, category: str | None) -> None:
        if category is not None and not self._index.holds(category):
            raise not_found("category", category)

    async def _embed_and_store(self, upsert: ProductUpsert, call: Call) -> None:
        if upsert.idempotency_key is not None and await self._read(call, self._store.done, upsert.idempotency_key):
            return  # a repeat need not be embedded again
        vectors = [(await self._embed(image, call, bulk=True)).vector for image in upsert.images]
        images = [await self._embedder.stored_image(image, call) for image in upsert.images]
        embedded = EmbeddedProduct(upsert.product, np.stack(vectors), images)
        async with self._writes.enter(call, 1):
            await self._written(call, self._store.upsert(embedded, upsert.idempotency_key, call.categories))

    async def _upsert(self, call: Call, upserts: Sequence[ProductUpsert]) -> list[Exception | None]:
        vectors = embedded_products([each for each in upserts if each.vectors], self.model.metric)
        storing = asyncio.ensure_future(self._store_vectors(vectors, call)) if vectors else None
        try:
            with_images = [each for each in upserts if not each.vectors]
            embedded = iter(await self._each(partial(self._embed_and_store, call=call), with_images))
            stored = iter(await storing if storing else ())
        finally:
            if storing:
                storing.cancel()  # where the caller gave up
        return [self._error(next(stored)) if each.vectors else next(embedded) for each in upserts]

    async def _store_vectors(
        self, products: Sequence[tuple[EmbeddedProduct, IdempotencyKey | None]], call: Call
    ) -> list[object]:
        async with self._writes.enter(call, len(products)):
            return await self._written(call, self._store.upsert_all(products, call.categories))

    async def _written(self, call: Call, writing: Future[T]) -> T:
        """Wait for a write, and report how long it took."""
        began = self._clock()
        with stage("write", call, self._observer):
            result = await asyncio.wrap_future(writing)
        if self._on_stage is not None:
            self._on_stage(StageCompleted("write", self._clock() - began))
        return result

    def _error(self, outcome: object) -> Exception | None:
        if not isinstance(outcome, Exception):
            return None
        self.report_internal_error(outcome)
        return outcome

    async def _delete(self, delete: ProductDelete, call: Call) -> None:
        async with self._writes.enter(call, 1):
            known = await self._written(
                call, self._store.delete(delete.product_id, delete.idempotency_key, call.categories)
            )
        if not known:
            raise not_found("product", delete.product_id)

    def _read_image(self, product_id: str, image_index: int, within: frozenset[str] | None) -> StoredImage:
        if within is not None:
            self._read_product(product_id, within)
        image = self._store.image(product_id, image_index)
        if image is not None:
            return image
        images = len(self._retriever.product(product_id)[1])
        if image_index >= images:
            raise invalid("image_index", f"is {image_index}; the product has {images} images, counted from 0")
        raise not_found("image", f"{product_id}/{image_index}")

    def _read_product(self, product_id: str, within: frozenset[str] | None) -> tuple[Product, int]:
        product, vectors = self._retriever.product(product_id)
        if within is not None and product.category not in within:
            raise not_found("product", product_id)
        return product, len(vectors)

    def _read_page(self, category: str | None, after: str, size: int) -> Page:
        self._check_category(category)
        return self._store.page(category, after, size)

    def _read_categories(self, include_attributes: bool, within: frozenset[str] | None) -> list[Category]:
        facets = self._store.attribute_facets() if include_attributes else {}
        return [
            Category(name, count, self._index.kind(name), self._index.recall(name), facets.get(name, ()))
            for name, count in self._store.counts().items()
            if within is None or name in within
        ]

    def _complete_stats(self, stats: ResponseStats, call: Call) -> ResponseStats:
        return stats._replace(total=self._clock() - call.arrived, model_digest=self.model.digest)

    async def _read(self, call: Call, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        async with self._reads.enter(call):
            with stage("read", call, self._observer):
                return await asyncio.get_running_loop().run_in_executor(self._searchers, function, *arguments)

    async def _each(self, operation: Callable[[T], Awaitable[None]], items: Iterable[T]) -> list[Exception | None]:
        """Run the operation on all items concurrently; return what each raised, or None.

        Cancelling the caller cancels them all, also those that have not begun.
        """
        return await asyncio.gather(*(self._outcome(operation, item) for item in items))

    async def _outcome(self, operation: Callable[[T], Awaitable[None]], item: T) -> Exception | None:
        try:
            await operation(item)
        except Exception as error:  # noqa: BLE001 - one item's failure, of whatever kind, is not the others'
            return self._error(error)
        return None
