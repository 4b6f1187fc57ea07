"""The three services over a catalogue in memory, as far as the client can see them.

An embedding is eight numbers made from the photo's bytes. A test can have calls or single products refused, and can
run something before an upsert.
"""

# the names are those of the API's methods
# ruff: noqa: N802

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import cast

import grpc
import numpy as np
from google.protobuf.message import Message
from google.rpc import status_pb2

from client.fake_refusals import Refusal, invalid, refuse
from client.fake_unbuilt import Unbuilt
from lookalike.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    embedding_service_pb2,
    embedding_service_pb2_grpc,
    image_pb2,
    product_pb2,
    receipt_pb2,
    search_service_pb2,
    search_service_pb2_grpc,
)

DIM = 8
MAGIC = b"\xff\xd8"
"""What a picture begins with, for this server."""


def photo(name: str) -> bytes:
    """A picture that this server takes; another name is another picture."""
    return MAGIC + name.encode()


class FakeServicer(
    Unbuilt,
    embedding_service_pb2_grpc.EmbeddingServiceServicer,
    search_service_pb2_grpc.SearchServiceServicer,
    catalog_service_pb2_grpc.CatalogServiceServicer,
):
    """The services and their state.

    Attributes:
        products: The catalogue by id, with the products' embeddings.
        calls: The name and the request of every call that arrived.
        metadata: The metadata of every call that arrived.
        refusals: Answered one by one to the calls that arrive, before anything else is done.
        item_refusals: The same for single products of an upsert, by id.
        on_upsert: Runs before an upsert is done.
        weights: What GetModel says of them.
    """

    def __init__(self) -> None:
        self.products: dict[str, tuple[product_pb2.Product, np.ndarray]] = {}
        self.calls: list[tuple[str, Message]] = []
        self.metadata: list[dict[str, str]] = []
        self.refusals: list[Refusal] = []
        self.item_refusals: dict[str, list[Refusal]] = {}
        self.on_upsert: Callable[[], None] | None = None
        self.weights = "imagenet"
        self._lock = threading.Lock()

    def put(self, product_id: str, category: str = "Men", title: str = "") -> None:
        """Store a product without a call."""
        product = product_pb2.Product(id=product_id, category=category, title=title or f"title {product_id}")
        self.products[product_id] = (product, embedding_of(image_pb2.Image(encoded=photo(product_id))))

    def requests(self, method: str) -> list[Message]:
        """The requests of a method that arrived, refused ones included."""
        with self._lock:
            return [request for name, request in self.calls if name == method]

    def _arrive(self, request: Message, context: grpc.ServicerContext) -> None:
        name = type(request).__name__.removesuffix("Request")
        with self._lock:
            self.calls.append((name, request))
            # types-grpcio takes metadata for objects; they are pairs
            self.metadata.append(dict(cast("Sequence[tuple[str, str]]", context.invocation_metadata())))
            refusal = self.refusals.pop(0) if self.refusals else None
        if refusal:
            refuse(context, refusal)

    def Embed(
        self, request: embedding_service_pb2.EmbedRequest, context: grpc.ServicerContext
    ) -> embedding_service_pb2.EmbedResponse:
        """A photo's eight numbers."""
        self._arrive(request, context)
        try:
            values = embedding_of(request.image)
        except ValueError as error:
            refuse(context, invalid("image.encoded", str(error)))
        return embedding_service_pb2.EmbedResponse(embedding=values.tolist(), receipt=_receipt(None))

    def GetModel(
        self, request: embedding_service_pb2.GetModelRequest, context: grpc.ServicerContext
    ) -> embedding_service_pb2.GetModelResponse:
        """A model that does not exist."""
        self._arrive(request, context)
        return embedding_service_pb2.GetModelResponse(
            name="tiny",
            backbone="fake8",
            weights=self.weights,
            dim=DIM,
            metric=embedding_service_pb2.METRIC_COSINE,
            input_width=16,
            input_height=12,
            resize=embedding_service_pb2.RESIZE_BILINEAR,
            pooling="avg",
            precision="fp32",
            digest="d1",
            provider="CPUExecutionProvider",
            ladder=[
                embedding_service_pb2.Rung(batch_size=1, milliseconds=1.5, lanes=1),
                embedding_service_pb2.Rung(batch_size=2, milliseconds=2.25, lanes=2),
            ],
        )

    def Search(
        self, request: search_service_pb2.SearchRequest, context: grpc.ServicerContext
    ) -> search_service_pb2.SearchResponse:
        """Cosine over every product of the category."""
        self._arrive(request, context)
        category = request.category
        if request.WhichOneof("query") == "product_id":
            product, query = self._find(request.product_id, context)
            category = category or product.category
        elif request.WhichOneof("query") == "vector":
            query = np.array(request.vector.values, dtype=np.float32)
        else:
            query = embedding_of(request.image)
        if not category and not request.all_categories:
            refuse(context, invalid("category", "required unless all_categories is set"))
        neighbors = [
            search_service_pb2.Neighbor(
                product=product, distance=1 - float(query @ values), similarity=float(query @ values)
            )
            for product, values in self.products.values()
            if product.id != request.product_id and (request.all_categories or product.category == category)
        ]
        if request.HasField("max_distance"):
            neighbors = [each for each in neighbors if each.distance <= request.max_distance]
        neighbors.sort(key=lambda each: (each.distance, each.product.id))
        count = request.k if request.HasField("k") else 10
        return search_service_pb2.SearchResponse(neighbors=neighbors[:count], receipt=_receipt(True))

    def UpsertProducts(
        self, request: catalog_service_pb2.UpsertProductsRequest, context: grpc.ServicerContext
    ) -> catalog_service_pb2.UpsertProductsResponse:
        """Each product by itself; a photo without the right first bytes is none."""
        self._arrive(request, context)
        if self.on_upsert:
            self.on_upsert()
        results = []
        for place, product in enumerate(request.products):
            refusal = self._store(place, product)
            status = refusal.status() if refusal else status_pb2.Status()
            results.append(product_pb2.ItemStatus(id=product.id, status=status))
        return catalog_service_pb2.UpsertProductsResponse(results=results)

    def _store(self, place: int, product: product_pb2.ProductInput) -> Refusal | None:
        planned = self.item_refusals.get(product.id)
        if planned:
            return planned.pop(0)
        if not product.category:
            return invalid(f"products[{place}].category", "required")
        try:
            values = [embedding_of(each) for each in product.images]
        except ValueError as error:
            return invalid(f"products[{place}].images[0].encoded", str(error))
        values += [np.array(each.values, dtype=np.float32) for each in product.vectors]
        stored = product_pb2.Product(
            id=product.id,
            category=product.category,
            title=product.title,
            image_uri=product.image_uri,
            attributes=product.attributes,
        )
        with self._lock:
            self.products[product.id] = (stored, values[0])
        return None

    def DeleteProducts(
        self, request: catalog_service_pb2.DeleteProductsRequest, context: grpc.ServicerContext
    ) -> catalog_service_pb2.DeleteProductsResponse:
        """Each id by itself."""
        self._arrive(request, context)
        results = []
        for product_id in request.ids:
            status = status_pb2.Status()
            if self.products.pop(product_id, None) is None:
                status = Refusal(grpc.StatusCode.NOT_FOUND, f"no product {product_id!r}").status()
            results.append(product_pb2.ItemStatus(id=product_id, status=status))
        return catalog_service_pb2.DeleteProductsResponse(results=results)

    def GetProduct(
        self, request: catalog_service_pb2.GetProductRequest, context: grpc.ServicerContext
    ) -> catalog_service_pb2.GetProductResponse:
        """One product."""
        self._arrive(request, context)
        product, _ = self._find(request.id, context)
        return catalog_service_pb2.GetProductResponse(product=product, image_count=1)

    def ListProducts(
        self, request: catalog_service_pb2.ListProductsRequest, context: grpc.ServicerContext
    ) -> catalog_service_pb2.ListProductsResponse:
        """A page; its token is its last id."""
        self._arrive(request, context)
        size = request.page_size or 100
        found = [
            product
            for product_id, (product, _) in sorted(self.products.items())
            if product_id > request.page_token and request.category in ("", product.category)
        ]
        token = found[size - 1].id if len(found) > size else ""
        return catalog_service_pb2.ListProductsResponse(products=found[:size], next_page_token=token)

    def ListCategories(
        self, request: catalog_service_pb2.ListCategoriesRequest, context: grpc.ServicerContext
    ) -> catalog_service_pb2.ListCategoriesResponse:
        """The categories, and their products' attributes if asked."""
        self._arrive(request, context)
        by_category: dict[str, list[product_pb2.Product]] = {}
        for product, _ in self.products.values():
            by_category.setdefault(product.category, []).append(product)
        return catalog_service_pb2.ListCategoriesResponse(
            categories=[
                catalog_service_pb2.Category(
                    name=name,
                    count=len(products),
                    index_kind=catalog_service_pb2.INDEX_KIND_FLAT,
                    attributes=_attributes(products) if request.include_attributes else (),
                )
                for name, products in sorted(by_category.items())
            ]
        )

    def _find(self, product_id: str, context: grpc.ServicerContext) -> tuple[product_pb2.Product, np.ndarray]:
        if product_id not in self.products:
            refuse(context, Refusal(grpc.StatusCode.NOT_FOUND, f"no product {product_id!r}"))
        return self.products[product_id]


def embedding_of(image: image_pb2.Image) -> np.ndarray:
    """Eight numbers of length 1 that depend on every byte and on the region; float32 [8].

    Raises:
        ValueError: A file that is not a picture.
    """
    if image.WhichOneof("source") == "encoded" and not image.encoded.startswith(MAGIC):
        raise ValueError("not a picture")
    digest = hashlib.sha256(image.SerializeToString(deterministic=True)).digest()[:DIM]
    values = np.frombuffer(digest, dtype=np.uint8).astype(np.float32) - np.float32(127.5)
    return values / np.linalg.norm(values)


def _attributes(products: list[product_pb2.Product]) -> list[catalog_service_pb2.AttributeSeen]:
    counts: dict[str, Counter[str]] = {}
    for product in products:
        for name, value in product.attributes.items():
            counts.setdefault(name, Counter())[value] += 1
    return [
        catalog_service_pb2.AttributeSeen(
            name=name,
            distinct_values=len(values),
            top_values=[
                catalog_service_pb2.ValueCount(value=value, count=count) for value, count in values.most_common()
            ],
        )
        for name, values in sorted(counts.items())
    ]


def _receipt(exact: bool | None) -> receipt_pb2.Receipt:
    return receipt_pb2.Receipt(total_us=1500, inference_us=1000, batch_size=1, padded_size=1, exact=exact)
