"""Hands products over to a stream, and keeps what went wrong: gRPC itself would only say that something did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lookalike.v1 import catalog_service_pb2
from lookalike_client import requests
from lookalike_client.inputs import ProductInput


class Handover:
    """The products of one stream, each made a message when it is asked for.

    Attributes:
        failure: What reading the products raised; None as long as nothing did.
    """

    def __init__(self, products: Iterable[ProductInput]) -> None:
        self._products = products
        self.failure: Exception | None = None

    def messages(self) -> Iterator[catalog_service_pb2.ImportProductsRequest]:
        """The products as messages; raises what reading them raises, and keeps it."""
        try:
            yield from map(requests.import_product, self._products)
        except Exception as error:
            self.failure = error
            raise
