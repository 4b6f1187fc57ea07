"""From the domain to messages: pure, nothing can fail."""

from __future__ import annotations

from collections.abc import Iterable

from google.rpc import status_pb2

from lookalike.v1 import (
    catalog_service_pb2,
    embedding_service_pb2,
    image_pb2,
    product_pb2,
    receipt_pb2,
    search_service_pb2,
)
from lookalike_server.domain import (
    Answer,
    Category,
    Embedded,
    EmbeddedProduct,
    Floats,
    IndexKind,
    Metric,
    Model,
    Neighbor,
    Page,
    Picture,
    Product,
    Receipt,
    Resize,
    Runtime,
)
from lookalike_server.rpc.from_pb import packed_header, page_token
from lookalike_server.rpc.status import to_status

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


def embedded(value: Embedded) -> embedding_service_pb2.EmbedResponse:
    """The answer to Embed."""
    response = embedding_service_pb2.EmbedResponse(receipt=receipt(value.receipt))
    response.MergeFromString(_packed(response.EMBEDDING_FIELD_NUMBER, value.vector))
    return response


def embedded_item(item_id: str, value: Embedded) -> embedding_service_pb2.EmbedStreamResponse:
    """The answer to one photo of EmbedStream."""
    return embedding_service_pb2.EmbedStreamResponse(
        id=item_id, embedding=_vector(value.vector), receipt=receipt(value.receipt)
    )


def model(value: Model, runtime: Runtime) -> embedding_service_pb2.GetModelResponse:
    """The answer to GetModel."""
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
        ladder=[
            embedding_service_pb2.Rung(batch_size=rung.batch_size, milliseconds=rung.seconds * 1e3, lanes=rung.lanes)
            for rung in runtime.ladder
        ],
    )


def answer(value: Answer) -> search_service_pb2.SearchResponse:
    """The answer to Search."""
    return search_service_pb2.SearchResponse(neighbors=map(_neighbor, value.neighbors), receipt=receipt(value.receipt))


def receipt(value: Receipt) -> receipt_pb2.Receipt:
    """What an answer cost, in whole microseconds."""
    return receipt_pb2.Receipt(
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
    """A product."""
    return product_pb2.Product(
        id=value.id,
        category=value.category,
        title=value.title,
        image_uri=value.image_uri,
        attributes=value.attributes,
    )


def picture(value: Picture) -> catalog_service_pb2.GetImageResponse:
    """The answer to GetImage."""
    return catalog_service_pb2.GetImageResponse(encoded=value.data, media_type=value.media_type, sha256=value.sha256)


def products(value: Page, category: str) -> catalog_service_pb2.ListProductsResponse:
    """The answer to ListProducts for this category (empty for all)."""
    return catalog_service_pb2.ListProductsResponse(
        products=map(product, value.products),
        next_page_token="" if value.next_after is None else page_token(category, value.next_after),
    )


def exported(value: EmbeddedProduct) -> catalog_service_pb2.ExportProductsResponse:
    """One product of ExportProducts."""
    return catalog_service_pb2.ExportProductsResponse(
        product=product(value.product), vectors=map(_vector, value.vectors)
    )


def categories(values: Iterable[Category]) -> catalog_service_pb2.ListCategoriesResponse:
    """The answer to ListCategories."""
    return catalog_service_pb2.ListCategoriesResponse(categories=map(_category, values))


def item_status(product_id: str, error: Exception | None) -> product_pb2.ItemStatus:
    """What became of one item: OK, or its error."""
    return product_pb2.ItemStatus(id=product_id, status=to_status(error) if error else status_pb2.Status())


def _category(value: Category) -> catalog_service_pb2.Category:
    return catalog_service_pb2.Category(
        name=value.name,
        count=value.count,
        index_kind=_INDEX_KINDS[value.kind],
        recall=value.recall,
        attributes=[
            catalog_service_pb2.AttributeSeen(
                name=seen.name,
                distinct_values=seen.distinct_values,
                top_values=[catalog_service_pb2.ValueCount(value=text, count=count) for text, count in seen.top_values],
            )
            for seen in value.attributes
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


def _vector(values: Floats) -> image_pb2.Vector:
    return image_pb2.Vector.FromString(_packed(image_pb2.Vector.VALUES_FIELD_NUMBER, values))


def _packed(field_number: int, vector: Floats) -> bytes:
    """A repeated float field in protobuf's wire format: parsed as a whole, where setting it costs 0.15 us a number."""
    values = vector.astype("<f4", copy=False).tobytes()
    return packed_header(field_number, len(values)) + values


def _microseconds(seconds: float) -> int:
    # Clocks of different stages differ in their last digit; a duration is never negative.
    return max(0, round(seconds * 1e6))
