"""The three services: from request to domain, one call of the engine, and back. Nothing is decided here.

Streams are iterators of `StreamItem`, which the generated stubs cannot say.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from lookalike.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    embedding_service_pb2,
    embedding_service_pb2_grpc,
    product_pb2,
    search_service_pb2,
    search_service_pb2_grpc,
)
from lookalike_server.domain.catalog import ProductDelete, ProductUpsert
from lookalike_server.domain.errors import Rejection, unavailable
from lookalike_server.domain.inference import RawImage
from lookalike_server.rpc.audit_log import note_ids, note_item, note_results
from lookalike_server.rpc.call_context import CURRENT, Context
from lookalike_server.rpc.gate import Gate
from lookalike_server.rpc.status import to_status
from lookalike_server.rpc.streams import serve_each
from lookalike_server.rpc.v1 import from_pb, to_pb
from lookalike_server.rpc.v1.fields_from_pb import name
from lookalike_server.rpc.v1.product_wire import ReceivedProducts
from lookalike_server.rpc.v1.query_from_pb import query

_OVERHEAD = 64  # bytes of a stream's response besides its id and its item, at most


class EmbeddingService(embedding_service_pb2_grpc.EmbeddingServiceServicer):
    """Images in, embeddings out."""

    def __init__(self, gate: Gate, message_timeout: float) -> None:
        self._gate = gate
        self._message_timeout = message_timeout

    async def Embed(
        self, request: RawImage | embedding_service_pb2.EmbedRequest, context: Context
    ) -> embedding_service_pb2.EmbedResponse:
        image = request if isinstance(request, RawImage) else from_pb.embed_image(request)
        return to_pb.embed_response(await self._gate.engine.embed(image, CURRENT.get()))

    def EmbedStream(
        self, request_iterator: AsyncIterator[Any], context: Context
    ) -> AsyncIterator[embedding_service_pb2.EmbedStreamResponse]:
        engine, call = self._gate.engine, CURRENT.get()

        async def serve(
            request: embedding_service_pb2.EmbedStreamRequest,
        ) -> embedding_service_pb2.EmbedStreamResponse:
            image = from_pb.embed_image(request)
            return to_pb.embed_stream_response(request.id, await engine.embed(image, call.for_item(), bulk=True))

        def fail(
            request: embedding_service_pb2.EmbedStreamRequest | None, error: Exception
        ) -> embedding_service_pb2.EmbedStreamResponse:
            engine.report_internal_error(error)
            return embedding_service_pb2.EmbedStreamResponse(id=request.id if request else "", status=to_status(error))

        return serve_each(
            request_iterator, serve, fail, engine.stream_window, self._message_timeout, self._gate.draining
        )

    async def GetModel(
        self, request: embedding_service_pb2.GetModelRequest, context: Context
    ) -> embedding_service_pb2.GetModelResponse:
        engine = self._gate.engine
        return to_pb.model_response(engine.model, engine.runtime)


class SearchService(search_service_pb2_grpc.SearchServiceServicer):
    """An image, a vector or a product in, the products that look most like it out."""

    def __init__(self, gate: Gate, max_message_bytes: int, message_timeout: float) -> None:
        self._gate = gate
        self._max_message_bytes = max_message_bytes
        self._message_timeout = message_timeout

    async def Search(
        self, request: search_service_pb2.SearchRequest, context: Context
    ) -> search_service_pb2.SearchResponse:
        engine = self._gate.engine
        result = await engine.search(query(request, engine.model.dim), CURRENT.get())
        return to_pb.search_response(result, self._max_message_bytes)

    def SearchStream(
        self, request_iterator: AsyncIterator[Any], context: Context
    ) -> AsyncIterator[search_service_pb2.SearchStreamResponse]:
        engine, call = self._gate.engine, CURRENT.get()

        async def serve(request: search_service_pb2.SearchStreamRequest) -> search_service_pb2.SearchStreamResponse:
            search = query(request.search, engine.model.dim)
            result = await engine.search(search, call.for_item(), bulk=True)
            response = to_pb.search_response(result, self._max_message_bytes - len(request.id.encode()) - _OVERHEAD)
            return search_service_pb2.SearchStreamResponse(id=request.id, response=response)

        def fail(
            request: search_service_pb2.SearchStreamRequest | None, error: Exception
        ) -> search_service_pb2.SearchStreamResponse:
            engine.report_internal_error(error)
            return search_service_pb2.SearchStreamResponse(id=request.id if request else "", status=to_status(error))

        return serve_each(
            request_iterator, serve, fail, engine.stream_window, self._message_timeout, self._gate.draining
        )


class CatalogService(catalog_service_pb2_grpc.CatalogServiceServicer):
    """The products that searches find."""

    def __init__(self, gate: Gate, max_message_bytes: int, message_timeout: float) -> None:
        self._gate = gate
        self._max_message_bytes = max_message_bytes
        self._message_timeout = message_timeout

    async def UpsertProducts(self, request: Any, context: Context) -> catalog_service_pb2.UpsertProductsResponse:
        engine = self._gate.engine
        received: ReceivedProducts[catalog_service_pb2.UpsertProductsRequest] = request
        note_ids(item.id for item in received.message.products)
        items = from_pb.product_upserts(received, engine.model.dim)
        upserts = [item for _, item in items if isinstance(item, ProductUpsert)]
        outcomes = await engine.upsert(upserts, CURRENT.get())
        return catalog_service_pb2.UpsertProductsResponse(results=_results(items, outcomes))

    async def DeleteProducts(
        self, request: catalog_service_pb2.DeleteProductsRequest, context: Context
    ) -> catalog_service_pb2.DeleteProductsResponse:
        note_ids(request.ids)
        items = from_pb.product_deletes(request)
        deletes = [item for _, item in items if isinstance(item, ProductDelete)]
        outcomes = await self._gate.engine.delete(deletes, CURRENT.get())
        return catalog_service_pb2.DeleteProductsResponse(results=_results(items, outcomes))

    async def GetProduct(
        self, request: catalog_service_pb2.GetProductRequest, context: Context
    ) -> catalog_service_pb2.GetProductResponse:
        product, images = await self._gate.engine.product(name(request.id, "id"), CURRENT.get())
        return to_pb.product_response(product, images, self._max_message_bytes)

    async def ListProducts(
        self, request: catalog_service_pb2.ListProductsRequest, context: Context
    ) -> catalog_service_pb2.ListProductsResponse:
        page = await self._gate.engine.page(*from_pb.page_range(request), CURRENT.get())
        return to_pb.list_products_response(page, request.category, self._max_message_bytes)

    async def ExportProducts(
        self, request: catalog_service_pb2.ExportProductsRequest, context: Context
    ) -> AsyncIterator[catalog_service_pb2.ExportProductsResponse]:
        async for embedded in self._gate.engine.export(*from_pb.export_range(request), CURRENT.get()):
            yield to_pb.export_response(embedded, self._max_message_bytes)
            if self._gate.draining.streams_end:
                raise unavailable(
                    "the server is shutting down; go on after the last product, at another one", Rejection.DRAINING
                )

    async def ListCategories(
        self, request: catalog_service_pb2.ListCategoriesRequest, context: Context
    ) -> catalog_service_pb2.ListCategoriesResponse:
        categories = await self._gate.engine.categories(CURRENT.get(), include_attributes=request.include_attributes)
        # Not on the event loop, which 100,000 categories would hold for a third of a second.
        return await asyncio.to_thread(to_pb.list_categories_response, categories, self._max_message_bytes)

    async def UpdateAttributes(
        self, request: catalog_service_pb2.UpdateAttributesRequest, context: Context
    ) -> catalog_service_pb2.UpdateAttributesResponse:
        note_ids((request.id,))
        product = await self._gate.engine.update_attributes(from_pb.attribute_update(request), CURRENT.get())
        return catalog_service_pb2.UpdateAttributesResponse(product=to_pb.product(product))

    def ImportProducts(
        self, request_iterator: AsyncIterator[Any], context: Context
    ) -> AsyncIterator[catalog_service_pb2.ImportProductsResponse]:
        engine, call = self._gate.engine, CURRENT.get()

        async def serve(
            request: ReceivedProducts[catalog_service_pb2.ImportProductsRequest],
        ) -> catalog_service_pb2.ImportProductsResponse:
            upsert = from_pb.imported_product(request, engine.model.dim)
            (error,) = await engine.upsert([upsert], call, streamed=True)
            result = to_pb.item_status(request.message.product.id, error)
            note_item(result)
            return catalog_service_pb2.ImportProductsResponse(result=result)

        def fail(
            request: ReceivedProducts[catalog_service_pb2.ImportProductsRequest] | None, error: Exception
        ) -> catalog_service_pb2.ImportProductsResponse:
            engine.report_internal_error(error)
            product_id = request.message.product.id if request else ""
            result = to_pb.item_status(product_id, error)
            note_item(result)
            return catalog_service_pb2.ImportProductsResponse(result=result)

        return serve_each(
            request_iterator, serve, fail, engine.stream_window, self._message_timeout, self._gate.draining
        )

    async def GetImage(
        self, request: catalog_service_pb2.GetImageRequest, context: Context
    ) -> catalog_service_pb2.GetImageResponse:
        product_id = name(request.id, "id")
        image = await self._gate.engine.stored_image(product_id, request.image_index, CURRENT.get())
        return to_pb.image_response(image, self._max_message_bytes)


def _results(items: Sequence[tuple[str, object]], outcomes: Sequence[Exception | None]) -> list[product_pb2.ItemStatus]:
    """Merge the errors of invalid items and the outcomes of the others, in the order of the request; audit them."""
    remaining = iter(outcomes)
    statuses = []
    for product_id, item in items:
        outcome = item if isinstance(item, Exception) else next(remaining)
        statuses.append(to_pb.item_status(product_id, outcome))
    note_results(statuses)
    return statuses
