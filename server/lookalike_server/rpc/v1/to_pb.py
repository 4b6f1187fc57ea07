"""From the domain to messages: pure, and nothing can fail."""

from __future__ import annotations

from collections.abc import Iterable

from google.rpc import status_pb2

from lookalike import vector_codec
from lookalike.v1 import (
    catalog_service_pb2,
    embedding_service_pb2,
    product_pb2,
    response_stats_pb2,
    search_service_pb2,
)
from lookalike_server.domain.catalog import Category, EmbeddedProduct, IndexKind, Page, Product, StoredImage
from lookalike_server.domain.inference import EmbedResult, Metric, Model, Resize, ResponseStats, Runtime
from lookalike_server.domain.search import Neighbor, SearchResult
from lookalike_server.rpc.status import to_status
from lookalike_server.rpc.v1.from_pb import page_token

_METRICS = {
    Metric.COSINE: embedding_service_pb2.METRIC_COSINE,
    Metric.EUCLIDEAN: embedding_service_pb2.METRIC_EUCLIDEAN,
}
_RESIZES = {
    Resize.BILINEAR: embedding_service_pb2.RESIZE_BILINEAR,
    Resize.NEAREST: embedding_service_pb2.RESIZE_NEAREST,
}
_INDEX_KINDS = {
    IndexKind.FLAT: catalog_service_pb2.INDEX_KIND_FLAT,
    IndexKind.HNSW: catalog_service_pb2.INDEX_KIND_HNSW,
}


def embed_response(value: EmbedResult) -> embedding_service_pb2.EmbedResponse:
    """Make the response of Embed."""
    response = embedding_service_pb2.EmbedResponse(stats=stats(value.stats))
    response.MergeFromString(vector_codec.encode_floats(response.EMBEDDING_FIELD_NUMBER, value.vector))
    return response


def embed_stream_response(item_id: str, value: EmbedResult) -> embedding_service_pb2.EmbedStreamResponse:
    """Make the response to one item of EmbedStream."""
    return embedding_service_pb2.EmbedStreamResponse(
        id=item_id, embedding=vector_codec.to_vector(value.vector), stats=stats(value.stats)
    )


def model_response(value: Model, runtime: Runtime) -> embedding_service_pb2.GetModelResponse:
    """Make the response of GetModel."""
    return embedding_service_pb2.GetModelResponse(
        name=value.name,
        backbone=value.backbone,
        weights=value.weights,
        dim=value.dim,
        metric=_METRICS[value.metric],
        input_width=value.width,
        input_height=value.height,
        resize=_RESIZES[value.resize],
        pooling=value.pooling,
        precision=value.precision,
        digest=value.digest,
        provider=runtime.provider,
        batch_profiles=[
            embedding_service_pb2.BatchProfile(
                batch_size=profile.batch_size, concurrency=profile.concurrency, latency_ms=profile.seconds * 1e3
            )
            for profile in runtime.batch_profiles
        ],
        runtime=_runtime(runtime),
    )


def search_response(value: SearchResult) -> search_service_pb2.SearchResponse:
    """Make the response of Search."""
    return search_service_pb2.SearchResponse(neighbors=map(_neighbor, value.neighbors), stats=stats(value.stats))


def stats(value: ResponseStats) -> response_stats_pb2.ResponseStats:
    """Make the stats of a response; durations in whole microseconds."""
    return response_stats_pb2.ResponseStats(
        decode_us=_microseconds(value.decode),
        queue_us=_microseconds(value.queue),
        inference_us=_microseconds(value.inference),
        search_us=_microseconds(value.search),
        total_us=_microseconds(value.total),
        batch_size=value.batch_size,
        padded_size=value.padded_size,
        cache_hit=value.cache_hit,
        model_digest=value.model_digest,
        exact=value.exact,
    )


def product(value: Product) -> product_pb2.Product:
    """Make a product."""
    return product_pb2.Product(
        id=value.id,
        category=value.category,
        title=value.title,
        image_uri=value.image_uri,
        attributes=value.attributes,
    )


def image_response(value: StoredImage) -> catalog_service_pb2.GetImageResponse:
    """Make the response of GetImage."""
    return catalog_service_pb2.GetImageResponse(encoded=value.data, media_type=value.media_type, sha256=value.sha256)


def list_products_response(value: Page, category: str) -> catalog_service_pb2.ListProductsResponse:
    """Make the response of ListProducts for this category (empty: all)."""
    return catalog_service_pb2.ListProductsResponse(
        products=map(product, value.products),
        next_page_token="" if value.next_after is None else page_token(category, value.next_after),
    )


def export_response(value: EmbeddedProduct) -> catalog_service_pb2.ExportProductsResponse:
    """Make the response of ExportProducts for one product."""
    return catalog_service_pb2.ExportProductsResponse(
        product=product(value.product), vectors=map(vector_codec.to_vector, value.vectors)
    )


def list_categories_response(values: Iterable[Category]) -> catalog_service_pb2.ListCategoriesResponse:
    """Make the response of ListCategories."""
    return catalog_service_pb2.ListCategoriesResponse(categories=map(_category, values))


def item_status(product_id: str, error: Exception | None) -> product_pb2.ItemStatus:
    """Make the status of one item: OK, or its error."""
    return product_pb2.ItemStatus(id=product_id, status=to_status(error) if error else status_pb2.Status())


def _runtime(value: Runtime) -> embedding_service_pb2.Runtime:
    message = embedding_service_pb2.Runtime(library=value.library, precision=value.precision, skipped=value.skipped)
    if value.parity:
        message.parity.CopyFrom(
            embedding_service_pb2.Parity(
                min_cosine=value.parity.min_cosine,
                overlap=value.parity.overlap,
                within_bounds=value.parity.within_bounds,
            )
        )
    return message


def _category(value: Category) -> catalog_service_pb2.Category:
    return catalog_service_pb2.Category(
        name=value.name,
        count=value.count,
        index_kind=_INDEX_KINDS[value.kind],
        recall=value.recall,
        attributes=[
            catalog_service_pb2.AttributeFacet(
                name=facet.name,
                distinct_values=facet.distinct_values,
                top_values=[catalog_service_pb2.ValueCount(value=top, count=count) for top, count in facet.top_values],
            )
            for facet in value.attributes
        ],
    )


def _neighbor(value: Neighbor) -> search_service_pb2.Neighbor:
    return search_service_pb2.Neighbor(
        product=product(value.product),
        distance=value.distance,
        similarity=value.similarity,
        image_index=value.image_index,
        duplicates=map(product, value.duplicates),
    )


def _microseconds(seconds: float) -> int:
    # Clocks of different stages differ in their last digit; a duration is never negative. Five a call: round is slow.
    return int(seconds * 1e6 + 0.5) if seconds > 0.0 else 0
