"""The three services over a catalog in memory, as far as the client can see them.

An embedding is eight numbers made from the image's bytes. A test can have calls or single products rejected, and can
run something before an upsert.
"""

# the names are those of the API's methods
# ruff: noqa: N802

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, NoReturn

import grpc
import numpy as np

from lookalike.v1 import (
    embedding_service_pb2,
    embedding_service_pb2_grpc,
    image_pb2,
    response_stats_pb2,
    search_service_pb2,
    search_service_pb2_grpc,
)
from support.fake_catalog import FakeCatalog
from support.fake_postprocess import passes, shown
from support.fake_rejections import Rejection, invalid, reject
from support.fake_state import DIM, embedding_of


class FakeServicer(
    FakeCatalog,
    embedding_service_pb2_grpc.EmbeddingServiceServicer,
    search_service_pb2_grpc.SearchServiceServicer,
):
    """The services and their state."""

    def Embed(
        self, request: embedding_service_pb2.EmbedRequest, context: grpc.ServicerContext
    ) -> embedding_service_pb2.EmbedResponse:
        """An image's eight numbers."""
        self._arrive(request, context)
        try:
            values = embedding_of(request.image)
        except ValueError as error:
            reject(context, invalid("image.encoded", str(error)))
        return embedding_service_pb2.EmbedResponse(embedding=values.tolist(), stats=_receipt(None))

    def EmbedStream(
        self, request_iterator: Iterator[embedding_service_pb2.EmbedStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[embedding_service_pb2.EmbedStreamResponse]:
        """Each image's eight numbers, once `stream_group` images wait for their answers or no more come."""
        self._arrive(embedding_service_pb2.EmbedStreamRequest(), context)
        while group := list(islice(request_iterator, self.stream_group)):
            self.stream_answered += len(group)
            yield from map(_embedded, group)

    def SearchStream(self, request_iterator: Any, context: grpc.ServicerContext) -> NoReturn:
        """The client does not call it, so this server does not have it."""
        reject(context, Rejection(grpc.StatusCode.UNIMPLEMENTED, "this server does not support it"))

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
            batch_profiles=[
                embedding_service_pb2.BatchProfile(batch_size=1, concurrency=1, latency_ms=1.5),
                embedding_service_pb2.BatchProfile(batch_size=2, concurrency=2, latency_ms=2.25),
            ],
        )

    def Search(
        self, request: search_service_pb2.SearchRequest, context: grpc.ServicerContext
    ) -> search_service_pb2.SearchResponse:
        """Cosine over every product of the category that passes the filters."""
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
            reject(context, invalid("category", "required unless all_categories is set"))
        neighbors = [
            search_service_pb2.Neighbor(
                product=product, distance=1 - float(query @ values), similarity=float(query @ values)
            )
            for product, values in self.products.values()
            if product.id != request.product_id
            and (request.all_categories or product.category == category)
            and passes(product, request.filters)
        ]
        if request.HasField("max_distance"):
            neighbors = [each for each in neighbors if each.distance <= request.max_distance]
        neighbors.sort(key=lambda each: (each.distance, each.product.id))
        return search_service_pb2.SearchResponse(neighbors=shown(neighbors, request), stats=_receipt(True))


def _embedded(request: embedding_service_pb2.EmbedStreamRequest) -> embedding_service_pb2.EmbedStreamResponse:
    try:
        values = embedding_of(request.image)
    except ValueError as error:
        return embedding_service_pb2.EmbedStreamResponse(
            id=request.id, status=invalid("image.encoded", str(error)).status()
        )
    vector = image_pb2.Vector(values=values.tolist())
    return embedding_service_pb2.EmbedStreamResponse(id=request.id, embedding=vector, stats=_receipt(None))


def _receipt(exact: bool | None) -> response_stats_pb2.ResponseStats:
    return response_stats_pb2.ResponseStats(total_us=1500, inference_us=1000, batch_size=1, padded_size=1, exact=exact)
