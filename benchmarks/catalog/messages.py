"""Requests as bytes, vectors included without a detour through Python floats, and answers as row numbers.

Row i of the vectors is product "p" + six digits. Rows are spread over any number of categories in order, so the same
vectors can be three categories or three hundred.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.catalog.vectors import Floats, VectorSet
from benchmarks.protocols import field
from lookalike.v1 import catalog_service_pb2, embedding_service_pb2, image_pb2, product_pb2, search_service_pb2

UPSERT = "/lookalike.v1.CatalogService/UpsertProducts"
IMPORT = "/lookalike.v1.CatalogService/ImportProducts"
CATEGORIES = "/lookalike.v1.CatalogService/ListCategories"

_COLORS = ("black", "blue", "green", "red", "white")


def category_of(vectors: VectorSet, row: int, categories: int) -> str:
    """Return the category of a row, where the rows are spread over so many."""
    return f"{vectors.label}c{row % vectors.total * categories // vectors.total:03d}"


def product_id(vectors: VectorSet, row: int) -> str:
    """Return the id of a row's product."""
    return f"{vectors.label}p{row:06d}"


def row_of(product: str) -> int:
    """Return the row of a product's id."""
    return int(product.rpartition("p")[2])


def attributes_of(row: int) -> dict[str, str]:
    """Return the attributes of a row's product: few, as a shop's are."""
    return {"color": _COLORS[row % len(_COLORS)], "price": f"{5 + row % 95}.90"}


def title_of(row: int) -> str:
    """Return the title of a row's product."""
    return f"Product {row}"


def search_request(vector: Floats, category: str, k: int) -> bytes:
    """Return a SearchRequest by vector."""
    request = search_service_pb2.SearchRequest(category=category, k=k)
    return request.SerializeToString() + field(2, _vector(vector))


def search_everywhere_request(vector: Floats, k: int) -> bytes:
    """Return a SearchRequest of all categories by vector."""
    request = search_service_pb2.SearchRequest(all_categories=True, k=k)
    return request.SerializeToString() + field(2, _vector(vector))


def product_request(vectors: VectorSet, row: int, categories: int, vector: Floats) -> bytes:
    """Return an UpsertProductsRequest of one product, or an ImportProductsRequest; several joined are one of several.

    A row beyond the last one is a product of its own, in the category of an existing row.
    """
    about = product_pb2.ProductInput(
        id=product_id(vectors, row),
        category=category_of(vectors, row, categories),
        title=title_of(row),
        attributes=attributes_of(row),
    )
    return field(1, about.SerializeToString() + field(7, _vector(vector)))


def embed_request(image: bytes) -> bytes:
    """Return an EmbedRequest of an image file."""
    return embedding_service_pb2.EmbedRequest(image=image_pb2.Image(encoded=image)).SerializeToString()


def embedding_of(answer: bytes) -> Floats:
    """Return the embedding of an EmbedResponse, float32 [dim]."""
    return np.array(embedding_service_pb2.EmbedResponse.FromString(answer).embedding, dtype=np.float32)


def answer_rows(answer: bytes) -> tuple[list[int], bool]:
    """Return the row numbers of a SearchResponse, nearest first, and whether every row was compared."""
    response = search_service_pb2.SearchResponse.FromString(answer)
    return [row_of(neighbor.product.id) for neighbor in response.neighbors], response.stats.exact


def result_count(answer: bytes) -> tuple[int, int]:
    """Return the number of products in a SearchResponse, and the microseconds in its stats."""
    response = search_service_pb2.SearchResponse.FromString(answer)
    return len(response.neighbors), response.stats.total_us


def upsert_results(answer: bytes) -> tuple[int, Sequence[str]]:
    """Return the number of products in an UpsertProductsResponse, and the messages of those that were not stored."""
    results = catalog_service_pb2.UpsertProductsResponse.FromString(answer).results
    return len(results), [result.status.message for result in results if result.status.code]


def import_failure(answer: bytes) -> str:
    """Return the message of an ImportProductsResponse whose product was not stored; empty when it was."""
    status = catalog_service_pb2.ImportProductsResponse.FromString(answer).result.status
    return str(status.message or status.code) if status.code else ""


def _vector(vector: Floats) -> bytes:
    return field(1, vector.astype("<f4", copy=False).tobytes())
