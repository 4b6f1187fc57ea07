"""Requests as bytes, vectors included without a copy through Python numbers, and answers as row numbers.

Row i of the vectors is product "p" + six digits. Rows are spread over any number of categories in order, so the same
vectors can be three categories or three hundred.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.catalog.vectors import Floats, Stock
from benchmarks.protocols import field
from lookalike.v1 import catalog_service_pb2, embedding_service_pb2, image_pb2, product_pb2, search_service_pb2

EMBED = "/lookalike.v1.EmbeddingService/Embed"
SEARCH = "/lookalike.v1.SearchService/Search"
UPSERT = "/lookalike.v1.CatalogService/UpsertProducts"
IMPORT = "/lookalike.v1.CatalogService/ImportProducts"
CATEGORIES = "/lookalike.v1.CatalogService/ListCategories"

_COLORS = ("black", "blue", "green", "red", "white")


def category_of(stock: Stock, row: int, categories: int) -> str:
    """The category of a row, where the rows are spread over so many."""
    return f"{stock.label}c{row % stock.total * categories // stock.total:03d}"


def product_id(stock: Stock, row: int) -> str:
    """The id of a row's product."""
    return f"{stock.label}p{row:06d}"


def row_of(product: str) -> int:
    """The row of a product's id."""
    return int(product.rpartition("p")[2])


def attributes_of(row: int) -> dict[str, str]:
    """The attributes of a row's product: few, as a shop's are."""
    return {"color": _COLORS[row % len(_COLORS)], "price": f"{5 + row % 95}.90"}


def title_of(row: int) -> str:
    """The title of a row's product."""
    return f"Product {row}"


def search_request(vector: Floats, category: str, k: int) -> bytes:
    """A SearchRequest by vector."""
    asked = search_service_pb2.SearchRequest(category=category, k=k)
    return asked.SerializeToString() + field(2, _vector(vector))


def product_request(stock: Stock, row: int, categories: int, vector: Floats) -> bytes:
    """An UpsertProductsRequest of one product, and an ImportProductsRequest; several in a row are one of several.

    A row from beyond the stock is a product of its own with a row's category.
    """
    about = product_pb2.ProductInput(
        id=product_id(stock, row),
        category=category_of(stock, row, categories),
        title=title_of(row),
        attributes=attributes_of(row),
    )
    return field(1, about.SerializeToString() + field(7, _vector(vector)))


def embed_request(image: bytes) -> bytes:
    """An EmbedRequest of an image file."""
    return embedding_service_pb2.EmbedRequest(image=image_pb2.Image(encoded=image)).SerializeToString()


def embedding_of(answer: bytes) -> Floats:
    """An EmbedResponse's embedding."""
    return np.array(embedding_service_pb2.EmbedResponse.FromString(answer).embedding, dtype=np.float32)


def answer_rows(answer: bytes) -> tuple[list[int], bool]:
    """A SearchResponse's row numbers, nearest first, and whether every row was compared."""
    response = search_service_pb2.SearchResponse.FromString(answer)
    return [row_of(neighbor.product.id) for neighbor in response.neighbors], response.stats.exact


def answered(answer: bytes) -> tuple[int, float]:
    """A SearchResponse's number of products, and the seconds that its stats says it took."""
    response = search_service_pb2.SearchResponse.FromString(answer)
    return len(response.neighbors), response.stats.total_us / 1e6


def upsert_failures(answer: bytes) -> Sequence[str]:
    """What an UpsertProductsResponse says of products that were not stored."""
    results = catalog_service_pb2.UpsertProductsResponse.FromString(answer).results
    return [result.status.message for result in results if result.status.code]


def import_failure(answer: bytes) -> str:
    """What an ImportProductsResponse says of a product that was not stored; empty when it was."""
    status = catalog_service_pb2.ImportProductsResponse.FromString(answer).result.status
    return str(status.message or status.code) if status.code else ""


def _vector(vector: Floats) -> bytes:
    return field(1, vector.astype("<f4", copy=False).tobytes())
