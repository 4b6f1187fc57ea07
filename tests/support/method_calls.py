"""One call of every method, by its row in docs/keys.md, to a catalog with products of two categories."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from lookalike.inference import inference_service_pb2, inference_service_pb2_grpc
from lookalike.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    embedding_service_pb2,
    embedding_service_pb2_grpc,
    search_service_pb2,
    search_service_pb2_grpc,
)
from support.oip_requests import images, raw_images
from support.serving import encoded, noise, product

OWN, OTHER, ALL = "Shoes", "Hats", ""
"""The category of bound keys, another one, and all."""

Metadata = tuple[tuple[str, str | bytes], ...]


class MethodCalls:
    """Makes calls on one channel, each with its own metadata."""

    def __init__(self, channel: Any) -> None:
        self._embedding: Any = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        self._search: Any = search_service_pb2_grpc.SearchServiceStub(channel)
        self._catalog: Any = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        self._inference: Any = inference_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._health: Any = health_pb2_grpc.HealthStub(channel)
        self._reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        self.rows: Mapping[str, Callable[[str, Metadata], Awaitable[Any]]] = {
            "Embed": lambda _, m: self._embedding.Embed(
                embedding_service_pb2.EmbedRequest(image=encoded(noise(1))), metadata=m
            ),
            "EmbedStream": lambda _, m: self._one(
                self._embedding.EmbedStream,
                embedding_service_pb2.EmbedStreamRequest(id="1", image=encoded(noise(1))),
                m,
            ),
            "GetModel": lambda _, m: self._embedding.GetModel(embedding_service_pb2.GetModelRequest(), metadata=m),
            "Search": lambda category, m: self._search.Search(_search(category), metadata=m),
            "Search by product id": lambda category, m: self._search.Search(_by_id(category), metadata=m),
            "SearchStream": lambda category, m: self._one(
                self._search.SearchStream,
                search_service_pb2.SearchStreamRequest(id="1", search=_search(category)),
                m,
            ),
            "GetProduct": lambda category, m: self._catalog.GetProduct(
                catalog_service_pb2.GetProductRequest(id=category), metadata=m
            ),
            "GetImage": lambda category, m: self._catalog.GetImage(
                catalog_service_pb2.GetImageRequest(id=category), metadata=m
            ),
            "ListProducts": lambda category, m: self._catalog.ListProducts(
                catalog_service_pb2.ListProductsRequest(category=category), metadata=m
            ),
            "ExportProducts": lambda category, m: self._export(category, m),
            "ListCategories": lambda _, m: self._catalog.ListCategories(
                catalog_service_pb2.ListCategoriesRequest(), metadata=m
            ),
            "UpsertProducts": lambda category, m: self._upsert("new", category, m),
            "UpsertProducts under the id of one there": lambda category, m: self._upsert(category, OWN, m),
            "ImportProducts": lambda category, m: self._one(
                self._catalog.ImportProducts,
                catalog_service_pb2.ImportProductsRequest(product=product("new", 1, category)),
                m,
            ),
            "UpdateAttributes": lambda category, m: self._catalog.UpdateAttributes(
                catalog_service_pb2.UpdateAttributesRequest(id=category, attributes={"color": "red"}), metadata=m
            ),
            "DeleteProducts": lambda category, m: self._catalog.DeleteProducts(
                catalog_service_pb2.DeleteProductsRequest(ids=[category]), metadata=m
            ),
            "ModelInfer": lambda _, m: self._inference.ModelInfer(raw_images(images(1)), metadata=m),
            "ServerMetadata": lambda _, m: self._inference.ServerMetadata(
                inference_service_pb2.ServerMetadataRequest(), metadata=m
            ),
            "ModelMetadata": lambda _, m: self._inference.ModelMetadata(
                inference_service_pb2.ModelMetadataRequest(name="tiny"), metadata=m
            ),
            "ServerLive": lambda _, m: self._inference.ServerLive(
                inference_service_pb2.ServerLiveRequest(), metadata=m
            ),
            "ServerReady": lambda _, m: self._inference.ServerReady(
                inference_service_pb2.ServerReadyRequest(), metadata=m
            ),
            "ModelReady": lambda _, m: self._inference.ModelReady(
                inference_service_pb2.ModelReadyRequest(name="tiny"), metadata=m
            ),
            "Health.Check": lambda _, m: self._health.Check(health_pb2.HealthCheckRequest(), metadata=m),
            "ServerReflectionInfo": lambda _, m: self._one(
                self._reflection.ServerReflectionInfo, reflection_pb2.ServerReflectionRequest(list_services=""), m
            ),
        }

    async def store(self, metadata: Metadata) -> None:
        """Store one product of each category, under the name of its category, and no others."""
        products = [product(category, seed, category) for seed, category in enumerate((OWN, OTHER))]
        await self._catalog.DeleteProducts(catalog_service_pb2.DeleteProductsRequest(ids=["new"]), metadata=metadata)
        stored = await self._catalog.UpsertProducts(
            catalog_service_pb2.UpsertProductsRequest(products=products), metadata=metadata
        )
        assert [result.status.code for result in stored.results] == [0, 0]

    async def categories_listed(self, metadata: Metadata) -> list[str]:
        """Return the names that ListCategories has."""
        listed = await self.rows["ListCategories"](ALL, metadata)
        return [category.name for category in listed.categories]

    async def code(self, row: str, category: str, metadata: Metadata) -> str:
        """Make a call, and return the name of its code, or of its only item's."""
        try:
            async with asyncio.timeout(60):
                response = await self.rows[row](category, metadata)
        except grpc.aio.AioRpcError as error:
            if (error.details() or "").startswith("Internal error from Core"):
                # grpc.aio's client says so of its own send where the server had ended the stream before.
                return await self.code(row, category, metadata)
            return str(error.code().name)
        items = getattr(response, "results", None) or [getattr(response, "result", response)]
        status = getattr(items[0], "status", None)
        number = getattr(status, "code", 0)
        return next(code.name for code in grpc.StatusCode if code.value[0] == number)

    async def _one(self, method: Any, request: Any, metadata: Metadata) -> Any:
        call = method(iter([request]), metadata=metadata)
        async for response in call:
            return response
        return await call  # raises

    async def _export(self, category: str, metadata: Metadata) -> Any:
        request = catalog_service_pb2.ExportProductsRequest(category=category)
        async for response in self._catalog.ExportProducts(request, metadata=metadata):
            return response
        raise AssertionError("nothing was exported")

    def _upsert(self, product_id: str, category: str, metadata: Metadata) -> Any:
        request = catalog_service_pb2.UpsertProductsRequest(products=[product(product_id, 1, category)])
        return self._catalog.UpsertProducts(request, metadata=metadata)


def _search(category: str) -> search_service_pb2.SearchRequest:
    return search_service_pb2.SearchRequest(
        image=encoded(noise(1)), category=category, all_categories=not category, k=1
    )


def _by_id(category: str) -> search_service_pb2.SearchRequest:
    return search_service_pb2.SearchRequest(product_id=category or OWN, all_categories=not category, k=1)
