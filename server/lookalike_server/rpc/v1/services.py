"""The three services: from request to domain, one call of the engine, and back. Nothing is decided here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

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
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.inference import RawImage
from lookalike_server.rpc.call_context import CURRENT, Context
from lookalike_server.rpc.gate import Gate
from lookalike_server.rpc.status import to_status
from lookalike_server.rpc.streams import serve_each
from lookalike_server.rpc.v1 import from_pb, to_pb
from lookalike_server.rpc.v1.fields_from_pb import name
from lookalike_server.rpc.v1.query_from_pb import query


class EmbeddingService(embedding_service_pb2_grpc.EmbeddingServiceServicer):
    """Images in, embeddings out."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def Embed(
        self, request: RawImage | embedding_service_pb2.EmbedRequest, context: Context
    ) -> embedding_service_pb2.EmbedResponse:
        image = request if isinstance(request, RawImage) else from_pb.embed_image(request)
        return to_pb.embed_response(await self._gate.engine.embed(image, CURRENT.get()))

    def EmbedStream(
        self, request_iterator: AsyncIterator[embedding_service_pb2.EmbedStreamRequest], context: Context
    ) -> AsyncIterator[embedding_service_pb2.EmbedStreamResponse]:
        engine, call = self._gate.engine, CURRENT.get()

        async def serve(
            request: embedding_service_pb2.EmbedStreamRequest,
        ) -> embedding_service_pb2.EmbedStreamResponse:
            try:
                image = from_pb.embed_image(request)
                return to_pb.embed_stream_response(request.id, await engine.embed(image, call.for_item(), bulk=True))
            except Exception as error:  # noqa: BLE001 - this item's own status carries it
                engine.report_internal_error(error)
                return embedding_service_pb2.EmbedStreamResponse(id=request.id, status=to_status(error))

        return serve_each(request_iterator, serve, engine.stream_window)

    async def GetModel(
        self, request: embedding_service_pb2.GetModelRequest, context: Context
    ) -> embedding_service_pb2.GetModelResponse:
        engine = self._gate.engine
        return to_pb.model_response(engine.model, engine.runtime)


class SearchService(search_service_pb2_grpc.SearchServiceServicer):
    """An image, a vector or a product in, the products that look most like it out."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def Search(
        self, request: search_service_pb2.SearchRequest, context: Context
    ) -> search_service_pb2.SearchResponse:
        engine = self._gate.engine
        return to_pb.search_response(await engine.search(query(request, engine.model.dim), CURRENT.get()))

    def SearchStream(
        self, request_iterator: AsyncIterator[search_service_pb2.SearchStreamRequest], context: Context
    ) -> AsyncIterator[search_service_pb2.SearchStreamResponse]:
        engine, call = self._gate.engine, CURRENT.get()

        async def serve(request: search_service_pb2.SearchStreamRequest) -> search_service_pb2.SearchStreamResponse:
            try:
                search = query(request.search, engine.model.dim)
                response = to_pb.search_response(await engine.search(search, call.for_item(), bulk=True))
                return search_service_pb2.SearchStreamResponse(id=request.id, response=response)
            except Exception as error:  # noqa: BLE001 - this item's own status carries it
                engine.report_internal_error(error)
                return search_service_pb2.SearchStreamResponse(id=request.id, status=to_status(error))

        return serve_each(request_iterator, serve, engine.stream_window)


class CatalogService(catalog_service_pb2_grpc.CatalogServiceServicer):
    """The products that searches find."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def UpsertProducts(
        self, request: catalog_service_pb2.UpsertProductsRequest, context: Context
    ) -> catalog_service_pb2.UpsertProductsResponse:
        engine = self._gate.engine
        items = from_pb.product_upserts(request, engine.model.dim)
        upserts = [item for _, item in items if isinstance(item, ProductUpsert)]
        outcomes = await engine.upsert(upserts, CURRENT.get())
        return catalog_service_pb2.UpsertProductsResponse(results=_statuses(items, outcomes))

    async def DeleteProducts(
        self, request: catalog_service_pb2.DeleteProductsRequest, context: Context
    ) -> catalog_service_pb2.DeleteProductsResponse:
        items = from_pb.product_deletes(request)
        outcomes = await self._gate.engine.delete([item for _, item in items if isinstance(item, ProductDelete)])
        return catalog_service_pb2.DeleteProductsResponse(results=_statuses(items, outcomes))

    async def GetProduct(
        self, request: catalog_service_pb2.GetProductRequest, context: Context
    ) -> catalog_service_pb2.GetProductResponse:
        product, images = await self._gate.engine.product(name(request.id, "id"))
        return catalog_service_pb2.GetProductResponse(product=to_pb.product(product), image_count=images)

    async def ListProducts(
        self, request: catalog_service_pb2.ListProductsRequest, context: Context
    ) -> catalog_service_pb2.ListProductsResponse:
        page = await self._gate.engine.page(*from_pb.page_range(request))
        return to_pb.list_products_response(page, request.category)

    async def ExportProducts(
        self, request: catalog_service_pb2.ExportProductsRequest, context: Context
    ) -> AsyncIterator[catalog_service_pb2.ExportProductsResponse]:
        async for embedded in self._gate.engine.export(*from_pb.export_range(request)):
            yield to_pb.export_response(embedded)

    async def ListCategories(
        self, request: catalog_service_pb2.ListCategoriesRequest, context: Context
    ) -> catalog_service_pb2.ListCategoriesResponse:
        categories = await self._gate.engine.categories(include_attributes=request.include_attributes)
        return to_pb.list_categories_response(categories)

    async def UpdateAttributes(
        self, request: catalog_service_pb2.UpdateAttributesRequest, context: Context
    ) -> catalog_service_pb2.UpdateAttributesResponse:
        product = await self._gate.engine.update_attributes(from_pb.attribute_update(request))
        return catalog_service_pb2.UpdateAttributesResponse(product=to_pb.product(product))

    def ImportProducts(
        self, request_iterator: AsyncIterator[catalog_service_pb2.ImportProductsRequest], context: Context
    ) -> AsyncIterator[catalog_service_pb2.ImportProductsResponse]:
        engine, call = self._gate.engine, CURRENT.get()

        async def serve(
            request: catalog_service_pb2.ImportProductsRequest,
        ) -> catalog_service_pb2.ImportProductsResponse:
            error: Exception | None
            try:
                upsert = from_pb.product_upsert(request.product, "product", engine.model.dim)
                (error,) = await engine.upsert([upsert], call)
            except LookalikeError as rejected:
                error = rejected
            return catalog_service_pb2.ImportProductsResponse(result=to_pb.item_status(request.product.id, error))

        return serve_each(request_iterator, serve, engine.stream_window)

    async def GetImage(
        self, request: catalog_service_pb2.GetImageRequest, context: Context
    ) -> catalog_service_pb2.GetImageResponse:
        return to_pb.image_response(await self._gate.engine.stored_image(name(request.id, "id"), request.image_index))


def _statuses(
    items: Sequence[tuple[str, object]], outcomes: Sequence[Exception | None]
) -> list[product_pb2.ItemStatus]:
    """Merge the errors of invalid items and the outcomes of the others, in the order of the request."""
    remaining = iter(outcomes)
    statuses = []
    for product_id, item in items:
        outcome = item if isinstance(item, Exception) else next(remaining)
        statuses.append(to_pb.item_status(product_id, outcome))
    return statuses
