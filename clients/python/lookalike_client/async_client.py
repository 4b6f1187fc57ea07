"""The client for code that runs in an event loop."""

# a timeout is the deadline that gRPC tells the server, which asyncio.timeout would not
# ruff: noqa: ASYNC109

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from lookalike.v1 import catalog_service_pb2, embedding_service_pb2
from lookalike.v1.catalog_service_pb2_grpc import CatalogServiceStub
from lookalike.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from lookalike.v1.search_service_pb2_grpc import SearchServiceStub
from lookalike_client import requests, responses
from lookalike_client.channel import call_metadata, channel_options, reject_too_large
from lookalike_client.errors import from_rpc_error
from lookalike_client.export_resume import goes_on
from lookalike_client.filters import Filter
from lookalike_client.inputs import ImageSource, ProductInput, VectorSource
from lookalike_client.readiness import CHECK, PAUSE_S, WATCH, Readiness
from lookalike_client.request_stream import AsyncHandover, Handover, at_least_one, told
from lookalike_client.types import (
    Category,
    EmbeddedImage,
    Embedding,
    Exported,
    ItemStatus,
    Model,
    Product,
    SearchResult,
    StoredImage,
    StoredProduct,
)

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response")


class AsyncClient:
    """Asks a Lookalike server without blocking the event loop; see `Client` for what each method does and raises.

    Belongs to the event loop that runs when it is made, so make it inside a coroutine. Files are read in a thread.

    Args:
        target: Where the server listens, HOST:PORT or any gRPC target.
        timeout: Seconds a call may take unless it says otherwise.
        token: Sent as `authorization: Bearer TOKEN`; the connection is not encrypted.
    """

    def __init__(self, target: str = "127.0.0.1:50051", *, timeout: float = 30.0, token: str | None = None) -> None:
        self.target = target
        self.timeout = timeout
        self._metadata = call_metadata(token)
        self._channel = aio.insecure_channel(target, options=channel_options(target))
        self._embedding = EmbeddingServiceStub(self._channel)
        self._search = SearchServiceStub(self._channel)
        self._catalog = CatalogServiceStub(self._channel)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.target}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls that are under way fail."""
        await self._channel.close()

    async def embed(self, image: ImageSource, *, timeout: float | None = None) -> Embedding:
        """Embed one image, as `Client.embed`: float32 of shape [dim], with its stats."""
        request = await asyncio.to_thread(requests.embed, image)
        return responses.embedding(await self._call(self._embedding.Embed, request, timeout))

    async def embed_many(
        self, images: Iterable[tuple[str, ImageSource]], *, window: int = 32, timeout: float | None = None
    ) -> AsyncIterator[EmbeddedImage]:
        """Embed any number of images over one stream, as `Client.embed_many`: what became of each, in any order.

        The iterable is read in the event loop, between two awaits, and the images' files in a thread.
        """
        handover = AsyncHandover(images, requests.embed_item, at_least_one(window))
        call = self._embedding.EmbedStream(handover.messages(), timeout=timeout, metadata=self._metadata)
        try:
            with told(handover):
                async for message in call:
                    yield responses.embedded_image(message)
                    handover.answered()
        finally:
            call.cancel()

    async def model(self, *, timeout: float | None = None) -> Model:
        """Which model answers, and how; as `Client.model`."""
        request = embedding_service_pb2.GetModelRequest()
        return responses.model(await self._call(self._embedding.GetModel, request, timeout))

    async def search(
        self,
        *,
        image: ImageSource | None = None,
        vector: VectorSource | None = None,
        product_id: str | None = None,
        category: str = "",
        all_categories: bool = False,
        k: int | None = None,
        filters: Sequence[Filter] = (),
        max_distance: float | None = None,
        group_by: str = "",
        group_limit: int | None = None,
        collapse_duplicates: bool = False,
        exact: bool = False,
        timeout: float | None = None,
    ) -> SearchResult:
        """Find the products that look most like an image, a vector or a product, as `Client.search`."""
        request = await asyncio.to_thread(
            requests.search,
            image=image,
            query_vector=vector,
            product_id=product_id,
            category=category,
            all_categories=all_categories,
            k=k,
            filters=filters,
            max_distance=max_distance,
            group_by=group_by,
            group_limit=group_limit,
            collapse_duplicates=collapse_duplicates,
            exact=exact,
        )
        return responses.answer(await self._call(self._search.Search, request, timeout))

    async def upsert(
        self, products: Sequence[ProductInput], *, idempotency_key: str = "", timeout: float | None = None
    ) -> list[ItemStatus]:
        """Store or replace 1 to 1000 products, as `Client.upsert`: one status a product, in their order."""
        request = await asyncio.to_thread(requests.upsert, products, idempotency_key)
        reply = await self._call(self._catalog.UpsertProducts, request, timeout)
        return list(map(responses.item_status, reply.results))

    async def import_products(
        self, products: Iterable[ProductInput], *, timeout: float | None = None
    ) -> AsyncIterator[ItemStatus]:
        """Store or replace any number of products over one stream, as `Client.import_products`: a status each.

        The iterable is read in the event loop, between two awaits.
        """
        handover = Handover(products, requests.import_product)
        call = self._catalog.ImportProducts(handover.messages(), timeout=timeout, metadata=self._metadata)
        try:
            with told(handover):
                async for message in call:
                    yield responses.item_status(message.result)
        finally:
            call.cancel()

    async def update_attributes(
        self,
        product_id: str,
        attributes: Mapping[str, str],
        *,
        clear: Iterable[str] = (),
        idempotency_key: str = "",
        timeout: float | None = None,
    ) -> Product:
        """Change and remove attributes of a product, as `Client.update_attributes`: the product afterwards."""
        request = requests.update_attributes(product_id, attributes, clear, idempotency_key)
        return responses.product((await self._call(self._catalog.UpdateAttributes, request, timeout)).product)

    async def delete(
        self, ids: Iterable[str], *, idempotency_key: str = "", timeout: float | None = None
    ) -> list[ItemStatus]:
        """Remove 1 to 1000 products, as `Client.delete`: one status an id, in their order."""
        reply = await self._call(self._catalog.DeleteProducts, requests.delete(ids, idempotency_key), timeout)
        return list(map(responses.item_status, reply.results))

    async def get(self, product_id: str, *, timeout: float | None = None) -> StoredProduct:
        """Read one product, as `Client.get`."""
        request = catalog_service_pb2.GetProductRequest(id=product_id)
        return responses.stored(await self._call(self._catalog.GetProduct, request, timeout))

    async def image(self, product_id: str, image_index: int = 0, *, timeout: float | None = None) -> StoredImage:
        """Read an image of a product as it was sent, as `Client.image`."""
        request = catalog_service_pb2.GetImageRequest(id=product_id, image_index=image_index)
        return responses.stored_image(await self._call(self._catalog.GetImage, request, timeout))

    async def products(
        self, category: str | None = None, *, page_size: int = 500, timeout: float | None = None
    ) -> AsyncIterator[Product]:
        """All products, or those of a category, by id; read in pages as `Client.products`."""
        token = ""
        while True:
            page = await self._call(self._catalog.ListProducts, requests.page(category, page_size, token), timeout)
            for message in page.products:
                yield responses.product(message)
            token = page.next_page_token
            if not token:
                return

    async def export_products(
        self, category: str | None = None, *, timeout: float | None = None
    ) -> AsyncIterator[Exported]:
        """All products, or those of a category, by id, each with its embeddings; as `Client.export_products`."""
        seconds = self.timeout if timeout is None else timeout
        last, more = "", True
        while more:
            first, more = last, False
            request = requests.export(category, first)
            call = self._catalog.ExportProducts(request, timeout=seconds, metadata=self._metadata)
            try:
                async for message in call:
                    last = message.product.id
                    yield responses.exported(message)
            except grpc.RpcError as error:
                more = goes_on(from_rpc_error(error), first, last)
            finally:
                call.cancel()

    async def categories(self, *, include_attributes: bool = False, timeout: float | None = None) -> list[Category]:
        """The categories by name, as `Client.categories`."""
        request = catalog_service_pb2.ListCategoriesRequest(include_attributes=include_attributes)
        reply = await self._call(self._catalog.ListCategories, request, timeout)
        return list(map(responses.category, reply.categories))

    async def health(self, *, timeout: float | None = None) -> str:
        """What the standard health service says, as `Client.health`."""
        check = self._channel.unary_unary(CHECK, HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString)
        answer = await self._call(check, HealthCheckRequest(), timeout)
        return HealthCheckResponse.ServingStatus.Name(answer.status)

    async def wait_until_ready(self, timeout: float = 300.0) -> None:
        """Return as soon as the server answers and says that it is ready; as `Client.wait_until_ready`."""
        watch = self._channel.unary_stream(WATCH, HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString)
        readiness = Readiness(self.target, timeout, time.monotonic())
        while True:
            left = readiness.seconds_left(time.monotonic())
            call = watch(HealthCheckRequest(), timeout=left, metadata=self._metadata, wait_for_ready=True)
            try:
                async for answer in call:
                    if readiness.is_serving(answer):
                        return
            except grpc.RpcError as error:
                readiness.after(error)
            finally:
                call.cancel()
            await asyncio.sleep(PAUSE_S)

    async def _call(
        self,
        method: aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
    ) -> Response:
        reject_too_large(request)
        try:
            return await method(request, timeout=self.timeout if timeout is None else timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
