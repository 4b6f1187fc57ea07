"""The three services over a catalogue in memory, as far as the client can see them.

An embedding is eight numbers made from the photo's bytes. A test can have calls or single products refused, and can
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

from client.fake_catalog import FakeCatalog
from client.fake_refusals import Refusal, invalid, refuse
from client.fake_shaping import passes, shown
from client.fake_state import DIM, embedding_of
from lookalike.v1 import (
    embedding_service_pb2,
    embedding_service_pb2_grpc,
    image_pb2,
    receipt_pb2,
    search_service_pb2,
    search_service_pb2_grpc,
)


class FakeServicer(
    FakeCatalog,
    embedding_service_pb2_grpc.EmbeddingServiceServicer,
    search_service_pb2_grpc.SearchServiceServicer,
):
    """The services and their state."""

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

    def EmbedStream(
        self, request_iterator: Iterator[embedding_service_pb2.EmbedStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[embedding_service_pb2.EmbedStreamResponse]:
        """Each photo's eight numbers, once `stream_group` photos wait for their answers or no more come."""
        self._arrive(embedding_service_pb2.EmbedStreamRequest(), context)
        while group := list(islice(request_iterator, self.stream_group)):
            self.stream_answered += len(group)
            yield from map(_embedded, group)

    def SearchStream(self, request_iterator: Any, context: grpc.ServicerContext) -> NoReturn:
        """The client does not call it, so this server does not have it."""
        refuse(context, Refusal(grpc.StatusCode.UNIMPLEMENTED, "this server does not support it"))

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
            refuse(context, invalid("category", "required unless all_categories is set"))
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
        return search_service_pb2.SearchResponse(neighbors=shown(neighbors, request), receipt=_receipt(True))


def _embedded(request: embedding_service_pb2.EmbedStreamRequest) -> embedding_service_pb2.EmbedStreamResponse:
    try:
        values = embedding_of(request.image)
    except ValueError as error:
        return embedding_service_pb2.EmbedStreamResponse(
            id=request.id, status=invalid("image.encoded", str(error)).status()
        )
    vector = image_pb2.Vector(values=values.tolist())
    return embedding_service_pb2.EmbedStreamResponse(id=request.id, embedding=vector, receipt=_receipt(None))


def _receipt(exact: bool | None) -> receipt_pb2.Receipt:
    return receipt_pb2.Receipt(total_us=1500, inference_us=1000, batch_size=1, padded_size=1, exact=exact)
