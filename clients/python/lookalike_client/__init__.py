"""Lookalike's client: `Client` and `AsyncClient` search a server's catalog for similar images.

with Client("127.0.0.1:50051") as client:
    result = client.search(image="shoe.jpg", category="Men", k=7)
    for neighbor in result.neighbors:
        print(neighbor.similarity, neighbor.product.title)
"""

import lookalike_client._grpc_log  # noqa: F401  # isort: split
from lookalike_client.async_client import AsyncClient
from lookalike_client.client import Client
from lookalike_client.errors import LookalikeError, Violation
from lookalike_client.filters import AnyOf, Between, Equals, Filter, NoneOf
from lookalike_client.inputs import Cropped, ImageSource, ProductInput, Region, VectorSource
from lookalike_client.tls import Tls, TlsError
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

__all__ = [
    "AnyOf",
    "AsyncClient",
    "AttributeFacet",
    "BatchProfile",
    "Between",
    "Category",
    "Client",
    "Cropped",
    "EmbeddedImage",
    "Embedding",
    "Equals",
    "ExportedProduct",
    "Filter",
    "ImageSource",
    "ItemStatus",
    "LookalikeError",
    "Model",
    "Neighbor",
    "NoneOf",
    "Parity",
    "Product",
    "ProductInput",
    "Region",
    "ResponseStats",
    "Runtime",
    "SearchResult",
    "StoredImage",
    "StoredProduct",
    "Tls",
    "TlsError",
    "ValueCount",
    "VectorSource",
    "Violation",
]
