"""Converts the server's messages to the client's types; pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lookalike import vector_codec
from lookalike.v1 import (
    catalog_service_pb2,
    embedding_service_pb2,
    product_pb2,
    response_stats_pb2,
    search_service_pb2,
)
from lookalike_client.errors import LookalikeError, code_of, read_details
from lookalike_client.types import (
    AttributeFacet,
    BatchProfile,
    Category,
    EmbeddedImage,
    Embedding,
    ExportedProduct,
    ItemStatus,
    Model,
    Neighbor,
    Parity,
    Product,
    ResponseStats,
    Runtime,
    SearchResult,
    StoredImage,
    StoredProduct,
    ValueCount,
)


def embedding(message: embedding_service_pb2.EmbedResponse) -> Embedding:
    """Convert an embedding and its stats."""
    values = np.array(message.embedding, dtype=np.float32)
    values.flags.writeable = False
    return Embedding(values=values, stats=_stats(message.stats))


def embedded_image(message: embedding_service_pb2.EmbedStreamResponse) -> EmbeddedImage:
    """Convert the result of one of many images."""
    if message.WhichOneof("result") == "embedding":
        values = vector_codec.from_vector(message.embedding)
        values.flags.writeable = False
        return EmbeddedImage(message.id, embedding=Embedding(values, _stats(message.stats)))
    violations, retry_after = read_details(message.status)
    error = LookalikeError(code_of(message.status.code), message.status.message, violations, retry_after)
    return EmbeddedImage(message.id, error=error)


def model(message: embedding_service_pb2.GetModelResponse) -> Model:
    """Convert the description of the model."""
    return Model(
        name=message.name,
        backbone=message.backbone,
        weights=message.weights,
        dim=message.dim,
        metric=_enum_name(embedding_service_pb2.Metric.Name, message.metric, "METRIC_"),
        input_width=message.input_width,
        input_height=message.input_height,
        resize=_enum_name(embedding_service_pb2.Resize.Name, message.resize, "RESIZE_"),
        pooling=message.pooling,
        precision=message.precision,
        digest=message.digest,
        provider=message.provider,
        batch_profiles=tuple(
            BatchProfile(profile.batch_size, profile.concurrency, profile.latency_ms)
            for profile in message.batch_profiles
        ),
        runtime=_runtime(message.runtime) if message.HasField("runtime") else None,
    )


def _runtime(message: embedding_service_pb2.Runtime) -> Runtime:
    parity = message.parity
    return Runtime(
        library=message.library,
        precision=message.precision,
        parity=Parity(parity.min_cosine, parity.overlap, parity.within_bounds) if message.HasField("parity") else None,
        skipped=tuple(message.skipped),
    )


def search_result(message: search_service_pb2.SearchResponse) -> SearchResult:
    """Convert the result of a search."""
    return SearchResult(
        neighbors=[
            Neighbor(
                product=product(each.product),
                distance=each.distance,
                similarity=each.similarity,
                image_index=each.image_index,
                duplicates=tuple(map(product, each.duplicates)),
            )
            for each in message.neighbors
        ],
        stats=_stats(message.stats),
    )


def product(message: product_pb2.Product) -> Product:
    """Convert a product."""
    return Product(
        id=message.id,
        category=message.category,
        title=message.title,
        image_uri=message.image_uri,
        attributes=dict(message.attributes),
    )


def stored_product(message: catalog_service_pb2.GetProductResponse) -> StoredProduct:
    """Convert a product and the count of its images."""
    return StoredProduct(product=product(message.product), image_count=message.image_count)


def exported_product(message: catalog_service_pb2.ExportProductsResponse) -> ExportedProduct:
    """Convert a product and its embeddings."""
    vectors = np.stack([vector_codec.from_vector(each) for each in message.vectors])
    vectors.flags.writeable = False
    return ExportedProduct(product=product(message.product), vectors=vectors)


def stored_image(message: catalog_service_pb2.GetImageResponse) -> StoredImage:
    """Convert a stored image."""
    return StoredImage(data=message.encoded, media_type=message.media_type, sha256=message.sha256)


def item_status(message: product_pb2.ItemStatus) -> ItemStatus:
    """Convert the status of one item."""
    violations, retry_after = read_details(message.status)
    return ItemStatus(
        id=message.id,
        code=code_of(message.status.code),
        message=message.status.message,
        violations=violations,
        retry_after=retry_after,
    )


def category(message: catalog_service_pb2.Category) -> Category:
    """Convert a category."""
    return Category(
        name=message.name,
        count=message.count,
        index_kind=_enum_name(catalog_service_pb2.IndexKind.Name, message.index_kind, "INDEX_KIND_"),
        attributes=tuple(map(_attribute, message.attributes)),
        recall=message.recall if message.HasField("recall") else None,
    )


def _attribute(message: catalog_service_pb2.AttributeFacet) -> AttributeFacet:
    return AttributeFacet(
        name=message.name,
        distinct_values=message.distinct_values,
        top_values=tuple(ValueCount(each.value, each.count) for each in message.top_values),
    )


def _stats(message: response_stats_pb2.ResponseStats) -> ResponseStats:
    return ResponseStats(
        decode_us=message.decode_us,
        queue_us=message.queue_us,
        inference_us=message.inference_us,
        search_us=message.search_us,
        total_us=message.total_us,
        batch_size=message.batch_size,
        padded_size=message.padded_size,
        cache_hit=message.cache_hit,
        model_digest=message.model_digest,
        exact=message.exact if message.HasField("exact") else None,
    )


def _enum_name(name_of: Callable[[Any], str], number: int, prefix: str) -> str:
    try:
        return name_of(number).removeprefix(prefix).lower()
    except ValueError:
        # a newer server may have values that this client does not know
        return str(number)
