"""The client for asyncio."""

# a timeout is the gRPC deadline, which the server is sent; asyncio.timeout would not send it
# ruff: noqa: ASYNC109

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

import grpc

from lookalike.v1 import catalog_service_pb2, embedding_service_pb2
from lookalike_client import requests, responses
from lookalike_client.connection import AsyncConnection
from lookalike_client.errors import from_rpc_error
from lookalike_client.export_resume import should_resume
from lookalike_client.filters import Filter
from lookalike_client.inputs import ImageSource, ProductInput, VectorSource
from lookalike_client.request_stream import AsyncRequestStream, RequestStream, stream_errors
from lookalike_client.types import (
    Category,
    EmbeddedImage,
    Embedding,
    ExportedProduct,
    ItemStatus,
    Model,
    Product,
    SearchResult,
    StoredImage,
    StoredProduct,
)


class AsyncClient(AsyncConnection):
    """A client of a Lookalike server for asyncio; see `Client` for what each method does and raises.

    It belongs to the event loop that runs when it is created: create it in a coroutine. Files are read in a thread.

    Args:
        target: Where the server listens, HOST:PORT or any gRPC target.
        timeout: The default deadline of a call, in seconds.
        token: Sent as `authorization: Bearer TOKEN`; without `tls` anybody on the way can read it.
        tls: Encrypts the connection; None for a server that listens in the clear.

    Raises:
        TlsError: A file of `tls` cannot be used.
    """

    async def embed(self, image: ImageSource, *, timeout: float | None = None) -> Embedding:
        """Embed one image, as `Client.embed`: float32 of shape [dim], with its stats."""
        request = await asyncio.to_thread(requests.embed, image)
        return responses.embedding(await self._call(self._embedding.Embed, request, timeout))

    async def embed_many(
        self, images: Iterable[tuple[str, ImageSource]], *, window: int = 32, timeout: float | None = None
    ) -> AsyncIterator[EmbeddedImage]:
        """Embed any number of images over one stream, as `Client.embed_many`: a result for each, in any order.

        The iterable is read in the event loop, between two awaits, and the images' files in a thread.
        """
        stream = AsyncRequestStream(images, requests.embed_item, window)
        call = self._embedding.EmbedStream(stream.messages(), timeout=timeout, metadata=self._metadata)
        try:
            with stream_errors(stream):
                async for message in call:
                    yield responses.embedded_image(message)
                    stream.response_received()
        finally:
            call.cancel()

    async def model(self, *, timeout: float | None = None) -> Model:
        """Describe the model that the server runs, as `Client.model`."""
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
        filters: Filter | Sequence[Filter] = (),
        max_distance: float | None = None,
        group_by: str = "",
        group_limit: int | None = None,
        collapse_duplicates: bool = False,
        exact: bool = False,
        timeout: float | None = None,
    ) -> SearchResult:
        """Find the products most similar to an image, a vector or a product, as `Client.search`."""
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
        return responses.search_result(await self._call(self._search.Search, request, timeout))

    async def upsert(
        self, products: Sequence[ProductInput], *, idempotency_key: str = "", timeout: float | None = None
    ) -> list[ItemStatus]:
        """Store or replace 1 to 1000 products, as `Client.upsert`: a status for each, in the same order."""
        request = await asyncio.to_thread(requests.upsert, products, idempotency_key)
        response = await self._call(self._catalog.UpsertProducts, request, timeout)
        return list(map(responses.item_status, response.results))

    async def import_products(
        self, products: Iterable[ProductInput], *, timeout: float | None = None
    ) -> AsyncIterator[ItemStatus]:
        """Store or replace any number of products over one stream, as `Client.import_products`: a status for each.

        The iterable is read in the event loop, between two awaits.
        """
        stream = RequestStream(products, requests.import_product)
        call = self._catalog.ImportProducts(stream.messages(), timeout=timeout, metadata=self._metadata)
        try:
            with stream_errors(stream):
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
        """Set and remove attributes of a product, as `Client.update_attributes`: the product afterwards."""
        request = requests.update_attributes(product_id, attributes, clear, idempotency_key)
        return responses.product((await self._call(self._catalog.UpdateAttributes, request, timeout)).product)

    async def delete(
        self, ids: Iterable[str], *, idempotency_key: str = "", timeout: float | None = None
    ) -> list[ItemStatus]:
        """Delete 1 to 1000 products, as `Client.delete`: a status for each id, in the same order."""
        response = await self._call(self._catalog.DeleteProducts, requests.delete(ids, idempotency_key), timeout)
        return list(map(responses.item_status, response.results))

    async def get(self, product_id: str, *, timeout: float | None = None) -> StoredProduct:
        """Read one product, as `Client.get`."""
        request = requests.get(product_id)
        return responses.stored_product(await self._call(self._catalog.GetProduct, request, timeout))

    async def image(self, product_id: str, image_index: int = 0, *, timeout: float | None = None) -> StoredImage:
        """Read an image of a product as it was sent, as `Client.image`."""
        request = requests.stored_image(product_id, image_index)
        return responses.stored_image(await self._call(self._catalog.GetImage, request, timeout))

    async def products(
        self, category: str | None = None, *, page_size: int = 500, timeout: float | None = None
    ) -> AsyncIterator[Product]:
        """Yield all products, or those of a category, by id; read in pages, as `Client.products`."""
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
    ) -> AsyncIterator[ExportedProduct]:
        """Yield all products, or those of a category, by id with their embeddings, as `Client.export_products`."""
        seconds = self.timeout if timeout is None else timeout
        last_id, more = "", True
        while more:
            after_id, more = last_id, False
            request = requests.export(category, after_id)
            call = self._catalog.ExportProducts(request, timeout=seconds, metadata=self._metadata)
            try:
                async for message in call:
                    last_id = message.product.id
                    yield responses.exported_product(message)
            except grpc.RpcError as error:
                more = should_resume(from_rpc_error(error), after_id, last_id)
            finally:
                call.cancel()

    async def categories(self, *, include_attributes: bool = False, timeout: float | None = None) -> list[Category]:
        """List the categories by name, as `Client.categories`."""
        request = catalog_service_pb2.ListCategoriesRequest(include_attributes=include_attributes)
        response = await self._call(self._catalog.ListCategories, request, timeout)
        return list(map(responses.category, response.categories))
