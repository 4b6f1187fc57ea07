"""From the domain to messages: pure, and nothing fails but what would be over the message limit."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from google.rpc import status_pb2

from lookalike import vector_codec
from lookalike.v1 import (
    catalog_service_pb2,
    embedding_service_pb2,
    product_pb2,
    response_stats_pb2,
    search_service_pb2,
)
from lookalike_server.domain.catalog import (
    PAGE_BYTES,
    Category,
    EmbeddedProduct,
    IndexKind,
    Page,
    Product,
    StoredImage,
)
from lookalike_server.domain.errors import invalid
from lookalike_server.domain.inference import EmbedResult, Metric, Model, Resize, ResponseStats, Runtime
from lookalike_server.domain.search import Neighbor, SearchResult
from lookalike_server.rpc.response_limit import (
    ENVELOPE_BYTES,
    MAX_PRODUCT_BYTES,
    check_size,
    extend_within,
    most_bytes,
)
from lookalike_server.rpc.status import to_status
from lookalike_server.rpc.v1.fields_from_pb import MAX_NAME_BYTES
from lookalike_server.rpc.v1.from_pb import page_token

_CATEGORY_BYTES = MAX_NAME_BYTES + 64  # with a count, a kind and a recall; without attributes

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


def search_response(value: SearchResult, max_bytes: int) -> search_service_pb2.SearchResponse:
    """Make the response of Search.

    Raises:
        LookalikeError: INVALID_ARGUMENT where it would have more bytes.
    """
    response = search_service_pb2.SearchResponse(stats=stats(value.stats))
    at_most = sum(most_bytes((each.product, *each.duplicates)) for each in value.neighbors)
    if not extend_within(response.neighbors, map(_neighbor, value.neighbors), max_bytes, at_most=at_most):
        fit = len(response.neighbors)
        raise invalid(
            "k",
            f"gives a response of more than {max_bytes} bytes, this server's limit; ask for a smaller k (the first"
            f" {fit} of {len(value.neighbors)} neighbors fit)",
        )
    return response


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
    message = product_pb2.Product()
    _set_product(message, value)
    return message


def product_response(value: Product, images: int, max_bytes: int) -> catalog_service_pb2.GetProductResponse:
    """Make the response of GetProduct.

    Raises:
        LookalikeError: FAILED_PRECONDITION where it would have more bytes.
    """
    response = catalog_service_pb2.GetProductResponse(product=product(value), image_count=images)
    return check_size(response, max_bytes, _named(value), at_most=MAX_PRODUCT_BYTES + ENVELOPE_BYTES)


def image_response(value: StoredImage, max_bytes: int) -> catalog_service_pb2.GetImageResponse:
    """Make the response of GetImage.

    Raises:
        LookalikeError: FAILED_PRECONDITION where it would have more bytes.
    """
    response = catalog_service_pb2.GetImageResponse(
        encoded=value.data, media_type=value.media_type, sha256=value.sha256
    )
    return check_size(response, max_bytes, "the image", at_most=len(value.data) + ENVELOPE_BYTES)


def list_products_response(value: Page, category: str, max_bytes: int) -> catalog_service_pb2.ListProductsResponse:
    """Make the response of ListProducts for this category (empty: all), of at most `PAGE_BYTES` or one product.

    Raises:
        LookalikeError: FAILED_PRECONDITION where one product alone would have more than `max_bytes`.
    """
    response = catalog_service_pb2.ListProductsResponse()
    products, most = map(product, value.products), min(PAGE_BYTES, max_bytes)
    at_most = most_bytes(value.products)
    next_after = value.next_after
    if not extend_within(response.products, products, most, at_most=at_most, at_least_one=True):
        next_after = response.products[-1].id
    response.next_page_token = "" if next_after is None else page_token(category, next_after)
    if len(response.products) == 1:
        check_size(response, max_bytes, _named(value.products[0]), at_most=MAX_PRODUCT_BYTES + ENVELOPE_BYTES)
    return response


def export_response(value: EmbeddedProduct, max_bytes: int) -> catalog_service_pb2.ExportProductsResponse:
    """Make the response of ExportProducts for one product.

    Raises:
        LookalikeError: FAILED_PRECONDITION where it would have more bytes.
    """
    response = catalog_service_pb2.ExportProductsResponse(
        product=product(value.product), vectors=map(vector_codec.to_vector, value.vectors)
    )
    at_most = value.vectors.nbytes + MAX_PRODUCT_BYTES + ENVELOPE_BYTES
    return check_size(response, max_bytes, f"{_named(value.product)} and its embeddings", at_most=at_most)


def list_categories_response(values: Sequence[Category], max_bytes: int) -> catalog_service_pb2.ListCategoriesResponse:
    """Make the response of ListCategories.

    Raises:
        LookalikeError: INVALID_ARGUMENT where it would have more bytes because of the attributes, FAILED_PRECONDITION
            where it would without them.
    """
    if not any(value.attributes for value in values):
        response = catalog_service_pb2.ListCategoriesResponse(categories=map(_category, values))
        return check_size(response, max_bytes, "all categories", at_most=len(values) * _CATEGORY_BYTES)
    response = catalog_service_pb2.ListCategoriesResponse()
    # Reading all these costs far more than measuring them.
    if not extend_within(response.categories, map(_category, values), max_bytes, at_most=sys.maxsize):
        raise invalid(
            "include_attributes",
            f"gives a response of more than {max_bytes} bytes, this server's limit; ask without attributes",
        )
    return response


def item_status(product_id: str, error: Exception | None) -> product_pb2.ItemStatus:
    """Make the status of one item: OK, or its error."""
    return product_pb2.ItemStatus(id=product_id, status=to_status(error) if error else status_pb2.Status())


def _named(value: Product) -> str:
    return f"the product {value.id!r}"


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
    message = search_service_pb2.Neighbor(
        distance=value.distance, similarity=value.similarity, image_index=value.image_index
    )
    _set_product(message.product, value.product)
    if value.duplicates:
        message.duplicates.extend(map(product, value.duplicates))
    return message


def _set_product(message: product_pb2.Product, value: Product) -> None:
    # Field by field, which takes half the time of the constructor: a response has many products.
    message.id = value.id
    message.category = value.category
    message.title = value.title
    message.image_uri = value.image_uri
    attributes = message.attributes
    for name, text in value.attributes.items():
        attributes[name] = text


def _microseconds(seconds: float) -> int:
    # Clocks of different stages differ in their last digit; a duration is never negative. Five a call: round is slow.
    return int(seconds * 1e6 + 0.5) if seconds > 0.0 else 0
