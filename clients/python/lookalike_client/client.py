"""The client for code without an event loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import grpc

from lookalike.v1 import catalog_service_pb2, embedding_service_pb2
from lookalike_client import requests, responses
from lookalike_client.connection import Connection
from lookalike_client.errors import from_rpc_error
from lookalike_client.export_resume import should_resume
from lookalike_client.filters import Filter
from lookalike_client.inputs import ImageSource, ProductInput, VectorSource
from lookalike_client.request_stream import RequestStream, stream_errors
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


class Client(Connection):
    """A client of a Lookalike server; threads may share one.

    Every call has a deadline: `timeout` of the call, else of the client, in seconds; retries of a rejected call count
    towards it. Every method raises `LookalikeError` when the server rejects the call or does not respond.

    Methods that write take an `idempotency_key` of 1 to 256 bytes: for 24 hours the server runs a request with the same
    key only once, so that a late retry cannot undo what others have written since. Empty: no key.

    Args:
        target: Where the server listens, HOST:PORT or any gRPC target.
        timeout: The default deadline of a call, in seconds.
        token: Sent as `authorization: Bearer TOKEN`; without `tls` anybody on the way can read it.
        tls: Encrypts the connection; None for a server that listens in the clear.

    Raises:
        TlsError: A file of `tls` cannot be used.
    """

    def embed(self, image: ImageSource, *, timeout: float | None = None) -> Embedding:
        """Embed one image.

        Returns:
            The embedding, float32 of shape [dim], with its stats.

        Raises:
            LookalikeError: The server rejects the call or does not respond.
            OSError: The file cannot be read.
            TypeError: The image is of a type that cannot be an image.
            ValueError: Pixels that are not uint8 of shape [height, width, 3].
        """
        return responses.embedding(self._call(self._embedding.Embed, requests.embed(image), timeout))

    def embed_many(
        self, images: Iterable[tuple[str, ImageSource]], *, window: int = 32, timeout: float | None = None
    ) -> Iterator[EmbeddedImage]:
        """Embed any number of images over one stream, which the server runs at lower priority than single images.

        The iterable, and the files it names, are read in another thread, only as fast as the server embeds the images
        and the results are read.

        Args:
            images: Ids and images; a result has its image's id.
            window: The most images sent without a response yet; 1 or more.
            timeout: The deadline of the whole stream, in seconds; no deadline when None.

        Yields:
            The result of each image, in any order; a bad image never fails the others.

        Raises:
            LookalikeError: The stream is rejected or breaks.
            Exception: What reading an image's file or the iterable raises.
            ValueError: A window below 1.
        """
        stream = RequestStream(images, requests.embed_item, window)
        call = self._embedding.EmbedStream(stream.messages(), timeout=timeout, metadata=self._metadata)
        try:
            with stream_errors(stream):
                for message in call:
                    yield responses.embedded_image(message)
                    stream.response_received()
        finally:
            call.cancel()
            stream.close()

    def model(self, *, timeout: float | None = None) -> Model:
        """Describe the model that the server runs."""
        request = embedding_service_pb2.GetModelRequest()
        return responses.model(self._call(self._embedding.GetModel, request, timeout))

    def search(
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
        """Find the products most similar to an image, a vector or a product.

        Args:
            image: An image; exactly one of `image`, `vector` and `product_id` must be given.
            vector: An embedding of shape [dim] from the same model.
            product_id: A product of the catalog, which is never among its own results.
            category: The category to search; empty with `product_id`: the product's own.
            all_categories: Search every category and merge by distance.
            k: How many products, 1 to 1000; the server's 10 when None.
            filters: At most 64 conditions on attributes, which all must hold: `Equals`, `AnyOf`, `NoneOf`, `Between`.
            max_distance: Only products within this distance, in the model's metric.
            group_by: At most `group_limit` products may share a value of this attribute; products without it are in
                no group. Empty: no groups.
            group_limit: The most products in a group, 1 or more; the server's 1 when None. Only with `group_by`.
            collapse_duplicates: Merge products with the same embedding into one neighbor that lists the others.
            exact: Compare every vector, however large the category.
            timeout: The deadline of this call, in seconds.

        Raises:
            LookalikeError: The server rejects the call or does not respond.
            OSError: The image's file cannot be read.
            TypeError: The image is of a type that cannot be an image, or a filter is not a `Filter`.
            ValueError: Not exactly one query, or an array of the wrong shape.
        """
        request = requests.search(
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
        return responses.search_result(self._call(self._search.Search, request, timeout))

    def upsert(
        self, products: Sequence[ProductInput], *, idempotency_key: str = "", timeout: float | None = None
    ) -> list[ItemStatus]:
        """Store or replace 1 to 1000 products with different ids; a bad product never fails the others.

        They are sent as one message of at most 64 MiB; `import_products` takes any number of products.

        Returns:
            A status for each product, in the same order; what is OK is on the server's disk.

        Raises:
            LookalikeError: The message is too large; the server rejects the whole request or does not respond.
            OSError: An image's file cannot be read; nothing is sent.
            TypeError: An image is of a type that cannot be an image; nothing is sent.
            ValueError: An array of the wrong shape; nothing is sent.
        """
        response = self._call(self._catalog.UpsertProducts, requests.upsert(products, idempotency_key), timeout)
        return list(map(responses.item_status, response.results))

    def import_products(
        self, products: Iterable[ProductInput], *, timeout: float | None = None
    ) -> Iterator[ItemStatus]:
        """Store or replace any number of products with different ids over one stream.

        The iterable is read in another thread, only as fast as the server stores the products and the statuses are
        read.

        Args:
            products: What to store.
            timeout: The deadline of the whole stream, in seconds; no deadline when None.

        Yields:
            The status of each product as it becomes durable, in any order; a bad product never fails the others.

        Raises:
            LookalikeError: The stream is rejected or breaks; the statuses received until then hold.
            Exception: What reading an image's file or the iterable raises; what was sent until then may be stored.
        """
        stream = RequestStream(products, requests.import_product)
        call = self._catalog.ImportProducts(stream.messages(), timeout=timeout, metadata=self._metadata)
        try:
            with stream_errors(stream):
                for message in call:
                    yield responses.item_status(message.result)
        finally:
            call.cancel()

    def update_attributes(
        self,
        product_id: str,
        attributes: Mapping[str, str],
        *,
        clear: Iterable[str] = (),
        idempotency_key: str = "",
        timeout: float | None = None,
    ) -> Product:
        """Set attributes of a product and remove those named in `clear`; its other attributes and its images stay.

        Returns:
            The product afterwards.

        Raises:
            LookalikeError: NOT_FOUND where there is no such product; the server rejects the call or does not respond.
            TypeError: `clear` is one string.
            ValueError: An attribute is in both `attributes` and `clear`.
        """
        request = requests.update_attributes(product_id, attributes, clear, idempotency_key)
        return responses.product(self._call(self._catalog.UpdateAttributes, request, timeout).product)

    def delete(
        self, ids: Iterable[str], *, idempotency_key: str = "", timeout: float | None = None
    ) -> list[ItemStatus]:
        """Delete 1 to 1000 products; an unknown id has status NOT_FOUND and does not fail the others."""
        response = self._call(self._catalog.DeleteProducts, requests.delete(ids, idempotency_key), timeout)
        return list(map(responses.item_status, response.results))

    def get(self, product_id: str, *, timeout: float | None = None) -> StoredProduct:
        """Read one product; the error's code is NOT_FOUND where there is no such product."""
        return responses.stored_product(self._call(self._catalog.GetProduct, requests.get(product_id), timeout))

    def image(self, product_id: str, image_index: int = 0, *, timeout: float | None = None) -> StoredImage:
        """Read an image of a product as it was sent; `image_index` counts from 0.

        Raises:
            LookalikeError: NOT_FOUND where there is no such product, where it was stored with vectors, and where the
                file was larger than the server keeps; the server rejects the call or does not respond.
            ValueError: A negative index.
        """
        request = requests.stored_image(product_id, image_index)
        return responses.stored_image(self._call(self._catalog.GetImage, request, timeout))

    def products(
        self, category: str | None = None, *, page_size: int = 500, timeout: float | None = None
    ) -> Iterator[Product]:
        """Yield all products, or those of a category, by id; read in pages, each with its own deadline."""
        token = ""
        while True:
            page = self._call(self._catalog.ListProducts, requests.page(category, page_size, token), timeout)
            yield from map(responses.product, page.products)
            token = page.next_page_token
            if not token:
                return

    def export_products(
        self, category: str | None = None, *, timeout: float | None = None
    ) -> Iterator[ExportedProduct]:
        """Yield all products, or those of a category, by id with their embeddings; read only as fast as they are used.

        Each product is as it was when the server read it, shortly before it arrives. What is stored or deleted
        meanwhile may be missing or included. A stream that breaks or reaches its deadline is resumed after the last
        product received, so `timeout` limits how long the server may be silent, not how long the export takes.

        Raises:
            LookalikeError: NOT_FOUND where the category is empty; the server rejects the call or does not respond.
        """
        seconds = self.timeout if timeout is None else timeout
        last_id, more = "", True
        while more:
            after_id, more = last_id, False
            request = requests.export(category, after_id)
            call = self._catalog.ExportProducts(request, timeout=seconds, metadata=self._metadata)
            try:
                for message in call:
                    last_id = message.product.id
                    yield responses.exported_product(message)
            except grpc.RpcError as error:
                more = should_resume(from_rpc_error(error), after_id, last_id)
            finally:
                call.cancel()

    def categories(self, *, include_attributes: bool = False, timeout: float | None = None) -> list[Category]:
        """List the categories by name; counting their attributes' values reads every product."""
        request = catalog_service_pb2.ListCategoriesRequest(include_attributes=include_attributes)
        response = self._call(self._catalog.ListCategories, request, timeout)
        return list(map(responses.category, response.categories))
