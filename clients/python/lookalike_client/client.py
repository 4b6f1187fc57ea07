"""The client for code without an event loop."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message
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
from lookalike_client.request_stream import Handover, at_least_one, told
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


class Client:
    """Asks a Lookalike server; may be shared between threads.

    Every call has a deadline: `timeout` of the call, else of the client, in seconds; repeats of a rejected call are
    part of it. Every method raises `LookalikeError` when the server rejects or does not answer.

    Methods that write take a `idempotency_key`, the caller's name for the request, 1 to 256 bytes: what was done under it is
    not done again for 24 hours, so that a late repeat cannot undo what others wrote since. Empty: no name.

    Args:
        target: Where the server listens, HOST:PORT or any gRPC target.
        timeout: Seconds a call may take unless it says otherwise.
        token: Sent as `authorization: Bearer TOKEN`; the connection is not encrypted.
    """

    def __init__(self, target: str = "127.0.0.1:50051", *, timeout: float = 30.0, token: str | None = None) -> None:
        self.target = target
        self.timeout = timeout
        self._metadata = call_metadata(token)
        self._channel = grpc.insecure_channel(target, options=channel_options(target))
        self._embedding = EmbeddingServiceStub(self._channel)
        self._search = SearchServiceStub(self._channel)
        self._catalog = CatalogServiceStub(self._channel)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.target}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls that are under way fail."""
        self._channel.close()

    def embed(self, image: ImageSource, *, timeout: float | None = None) -> Embedding:
        """Embed one image.

        Returns:
            The embedding, float32 of shape [dim], with its stats.

        Raises:
            LookalikeError: The server rejects or does not answer.
            OSError: The file cannot be read.
            TypeError: The image is not of a type that can be one.
            ValueError: Pixels that are not uint8 of shape [height, width, 3].
        """
        return responses.embedding(self._call(self._embedding.Embed, requests.embed(image), timeout))

    def embed_many(
        self, images: Iterable[tuple[str, ImageSource]], *, window: int = 32, timeout: float | None = None
    ) -> Iterator[EmbeddedImage]:
        """Embed any number of images over one stream, which the server works at when nobody waits for a single answer.

        Images are taken from the iterable, and their files read, in another thread, only as fast as the server embeds
        them and the answers are read.

        Args:
            images: Names and images; an answer comes with its image's name.
            window: Images sent and not yet answered, at most; 1 or more.
            timeout: Seconds the whole stream may take; as long as it needs when None.

        Yields:
            What became of each image, in any order; a bad one never fails the others.

        Raises:
            LookalikeError: The stream is rejected or breaks.
            Exception: Whatever reading an image's file or the iterable raises.
            ValueError: A window below 1.
        """
        handover = Handover(images, requests.embed_item, at_least_one(window))
        call = self._embedding.EmbedStream(handover.messages(), timeout=timeout, metadata=self._metadata)
        try:
            with told(handover):
                for message in call:
                    yield responses.embedded_image(message)
                    handover.answered()
        finally:
            call.cancel()
            handover.end()

    def model(self, *, timeout: float | None = None) -> Model:
        """Which model answers, and how."""
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
        filters: Sequence[Filter] = (),
        max_distance: float | None = None,
        group_by: str = "",
        group_limit: int | None = None,
        collapse_duplicates: bool = False,
        exact: bool = False,
        timeout: float | None = None,
    ) -> SearchResult:
        """Find the products that look most like an image, a vector or a product.

        Args:
            image: An image; exactly one of `image`, `vector` and `product_id` must be given.
            vector: An embedding of shape [dim] made with the same model.
            product_id: A product of the catalog, which is never among its own answers.
            category: The category to search; empty with `product_id` means the product's own.
            all_categories: Search every category and merge by distance.
            k: How many products, 1 to 1000; the server's 10 when None.
            filters: Conditions on attributes that all must hold, at most 64: `Equals`, `AnyOf`, `NoneOf`, `Between`.
            max_distance: Only products at most this far away, in the model's metric.
            group_by: The attribute of which at most `group_limit` products share a value; those without it are in no
                group. Empty: no groups.
            group_limit: Products a group may have, 1 or more; the server's 1 when None. Only with `group_by`.
            collapse_duplicates: Make products with the same embedding one neighbor that lists the others.
            exact: Compare every row, however large the category.
            timeout: Seconds this call may take.

        Raises:
            LookalikeError: The server rejects or does not answer.
            OSError: The image's file cannot be read.
            TypeError: The image is not of a type that can be one, or a filter is none.
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
        return responses.answer(self._call(self._search.Search, request, timeout))

    def upsert(
        self, products: Sequence[ProductInput], *, idempotency_key: str = "", timeout: float | None = None
    ) -> list[ItemStatus]:
        """Store or replace 1 to 1000 products, each id once; a bad one never fails the others.

        They go as one message of at most 64 MiB; `import_products` takes any number of them.

        Returns:
            One status a product, in their order; what is OK is on the server's disk.

        Raises:
            LookalikeError: They are too large for one message; the server rejects the whole request or does not answer.
            OSError: An image's file cannot be read; nothing is sent.
            TypeError: An image is not of a type that can be one; nothing is sent.
            ValueError: An array of the wrong shape; nothing is sent.
        """
        reply = self._call(self._catalog.UpsertProducts, requests.upsert(products, idempotency_key), timeout)
        return list(map(responses.item_status, reply.results))

    def import_products(
        self, products: Iterable[ProductInput], *, timeout: float | None = None
    ) -> Iterator[ItemStatus]:
        """Store or replace any number of products over one stream, in which they should have different ids.

        Products are taken from the iterable, in another thread, only as fast as the server stores them and the answers
        are read.

        Args:
            products: What to store; read as it is needed.
            timeout: Seconds the whole stream may take; as long as it needs when None.

        Yields:
            One status a product, as it becomes durable, in any order; a bad product never fails the others.

        Raises:
            LookalikeError: The stream is rejected or breaks; what had a status until then stays as the status says.
            Exception: Whatever reading an image's file or the iterable raises; what was sent until then may be stored.
        """
        handover = Handover(products, requests.import_product)
        call = self._catalog.ImportProducts(handover.messages(), timeout=timeout, metadata=self._metadata)
        try:
            with told(handover):
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
        """Give attributes of a product new values and remove those named in `clear`; the others and its images stay.

        Returns:
            The product afterwards.

        Raises:
            LookalikeError: NOT_FOUND where there is no such product; the server rejects or does not answer.
            TypeError: `clear` is one string.
            ValueError: An attribute is in both `attributes` and `clear`.
        """
        request = requests.update_attributes(product_id, attributes, clear, idempotency_key)
        return responses.product(self._call(self._catalog.UpdateAttributes, request, timeout).product)

    def delete(self, ids: Iterable[str], *, idempotency_key: str = "", timeout: float | None = None) -> list[ItemStatus]:
        """Remove 1 to 1000 products; an unknown id has status NOT_FOUND and does not fail the others."""
        reply = self._call(self._catalog.DeleteProducts, requests.delete(ids, idempotency_key), timeout)
        return list(map(responses.item_status, reply.results))

    def get(self, product_id: str, *, timeout: float | None = None) -> StoredProduct:
        """Read one product; the error's code is NOT_FOUND where there is none."""
        request = catalog_service_pb2.GetProductRequest(id=product_id)
        return responses.stored(self._call(self._catalog.GetProduct, request, timeout))

    def image(self, product_id: str, image_index: int = 0, *, timeout: float | None = None) -> StoredImage:
        """Read an image of a product as it was sent, the first one unless told otherwise, counted from 0.

        Raises:
            LookalikeError: NOT_FOUND where there is no such product, where it came with vectors, and where the file was
                larger than the server keeps; the server rejects or does not answer.
            ValueError: A negative index.
        """
        request = catalog_service_pb2.GetImageRequest(id=product_id, image_index=image_index)
        return responses.stored_image(self._call(self._catalog.GetImage, request, timeout))

    def products(
        self, category: str | None = None, *, page_size: int = 500, timeout: float | None = None
    ) -> Iterator[Product]:
        """All products, or those of a category, by id; read in pages, each with a deadline of its own."""
        token = ""
        while True:
            page = self._call(self._catalog.ListProducts, requests.page(category, page_size, token), timeout)
            yield from map(responses.product, page.products)
            token = page.next_page_token
            if not token:
                return

    def export_products(self, category: str | None = None, *, timeout: float | None = None) -> Iterator[Exported]:
        """All products, or those of a category, by id, each with its embeddings; read as fast as they are taken.

        Each product is as it was when the server read it, a little before it comes. What is stored or removed meanwhile
        may be among them or not. A stream that breaks, or is not at its end when its deadline passes, is taken up again
        after the last product that came, so `timeout` is how long the server may be silent, not how long it all takes.

        Raises:
            LookalikeError: NOT_FOUND where the category holds no product; the server rejects or does not answer.
        """
        seconds = self.timeout if timeout is None else timeout
        last, more = "", True
        while more:
            first, more = last, False
            request = requests.export(category, first)
            call = self._catalog.ExportProducts(request, timeout=seconds, metadata=self._metadata)
            try:
                for message in call:
                    last = message.product.id
                    yield responses.exported(message)
            except grpc.RpcError as error:
                more = goes_on(from_rpc_error(error), first, last)
            finally:
                call.cancel()

    def categories(self, *, include_attributes: bool = False, timeout: float | None = None) -> list[Category]:
        """The categories by name; with their attributes' values if asked, which reads every product."""
        request = catalog_service_pb2.ListCategoriesRequest(include_attributes=include_attributes)
        reply = self._call(self._catalog.ListCategories, request, timeout)
        return list(map(responses.category, reply.categories))

    def health(self, *, timeout: float | None = None) -> str:
        """What the standard health service says: "SERVING", or "NOT_SERVING" while it starts and while it drains."""
        check = self._channel.unary_unary(CHECK, HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString)
        answer = self._call(check, HealthCheckRequest(), timeout)
        return HealthCheckResponse.ServingStatus.Name(answer.status)

    def wait_until_ready(self, timeout: float = 300.0) -> None:
        """Return as soon as the server answers and says that it is ready.

        Raises:
            LookalikeError: DEADLINE_EXCEEDED when it is not within `timeout` seconds.
        """
        watch = self._channel.unary_stream(WATCH, HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString)
        readiness = Readiness(self.target, timeout, time.monotonic())
        while True:
            left = readiness.seconds_left(time.monotonic())
            call = watch(HealthCheckRequest(), timeout=left, metadata=self._metadata, wait_for_ready=True)
            try:
                if any(readiness.is_serving(answer) for answer in call):
                    return
            except grpc.RpcError as error:
                readiness.after(error)
            finally:
                call.cancel()
            time.sleep(PAUSE_S)

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
    ) -> Response:
        reject_too_large(request)
        try:
            return method(request, timeout=self.timeout if timeout is None else timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
