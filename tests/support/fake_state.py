"""What the fake server holds in memory, and what a test can have it do."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import grpc
import numpy as np
from google.protobuf.message import Message

from lookalike.v1 import image_pb2, product_pb2
from support.fake_rejections import Rejection, reject

DIM = 8
MAGIC = b"\xff\xd8"
"""What an image begins with, for this server."""


def image_file(name: str) -> bytes:
    """An image that this server takes; another name is another image."""
    return MAGIC + name.encode()


class FakeState:
    """The catalog, the calls that arrived, and the plans of a test.

    Attributes:
        products: The catalog by id, with the products' embeddings.
        images: The products' image files by id, None where a vector came instead.
        vectors: All embeddings of the products by id, float32 [images, 8].
        cuts: After how many products each export that comes breaks; those after the last cut are whole.
        calls: The name and the request of every call that arrived.
        metadata: The metadata of every call that arrived.
        arrivals: When each of them arrived, in seconds of the monotonic clock.
        rejections: Answered one by one to the calls that arrive, before anything else is done; None lets one pass.
        item_rejections: The same for single products of an upsert, by id.
        on_upsert: Runs before an upsert, or one product of an import, is done.
        recalls: What ListCategories says of a category's recall.
        stream_group: How many images of a stream are answered together.
        stream_answered: How many images of streams were answered.
        weights: What GetModel says of them.
    """

    def __init__(self) -> None:
        self.products: dict[str, tuple[product_pb2.Product, np.ndarray]] = {}
        self.images: dict[str, list[bytes | None]] = {}
        self.vectors: dict[str, np.ndarray] = {}
        self.cuts: list[int] = []
        self._hold: tuple[threading.Event, threading.Event] | None = None
        self.calls: list[tuple[str, Message]] = []
        self.metadata: list[dict[str, str]] = []
        self.arrivals: list[float] = []
        self.rejections: list[Rejection | None] = []
        self.item_rejections: dict[str, list[Rejection]] = {}
        self.on_upsert: Callable[[], None] | None = None
        self.recalls: dict[str, float] = {}
        self.stream_group = 1
        self.stream_answered = 0
        self.weights = "imagenet"
        self._lock = threading.Lock()

    def put(
        self,
        product_id: str,
        category: str = "Men",
        title: str = "",
        attributes: Mapping[str, str] | None = None,
        looks_like: str = "",
    ) -> None:
        """Store a product without a call; its image has the product's name unless it looks like another one."""
        data = image_file(looks_like or product_id)
        product = product_pb2.Product(
            id=product_id, category=category, title=title or f"title {product_id}", attributes=attributes
        )
        self._keep(product, [embedding_of(image_pb2.Image(encoded=data))], [data])

    def requests(self, method: str) -> list[Message]:
        """The requests of a method that arrived, rejected ones included."""
        with self._lock:
            return [request for name, request in self.calls if name == method]

    @contextmanager
    def held_exports(self) -> Iterator[threading.Event]:
        """Have exports stop after their first product until the block ends; the event says that one has."""
        self._hold = held, released = threading.Event(), threading.Event()
        try:
            yield held
        finally:
            self._hold = None
            released.set()

    def _keep(self, product: product_pb2.Product, values: Sequence[np.ndarray], images: list[bytes | None]) -> None:
        with self._lock:
            self.products[product.id] = (product, values[0])
            self.vectors[product.id] = np.stack(values)
            self.images[product.id] = images

    def _arrive(self, request: Message, context: grpc.ServicerContext) -> None:
        name = type(request).__name__.removesuffix("Request")
        with self._lock:
            self.calls.append((name, request))
            self.arrivals.append(time.monotonic())
            # types-grpcio takes metadata for objects; they are pairs
            self.metadata.append(dict(cast("Sequence[tuple[str, str]]", context.invocation_metadata())))
            rejection = self.rejections.pop(0) if self.rejections else None
        if rejection:
            reject(context, rejection)

    def _find(self, product_id: str, context: grpc.ServicerContext) -> tuple[product_pb2.Product, np.ndarray]:
        if product_id not in self.products:
            reject(context, Rejection(grpc.StatusCode.NOT_FOUND, f"no product {product_id!r}"))
        return self.products[product_id]


def embedding_of(image: image_pb2.Image) -> np.ndarray:
    """Eight numbers of length 1 that depend on every byte and on the region; float32 [8].

    Raises:
        ValueError: A file that is not an image.
    """
    if image.WhichOneof("source") == "encoded" and not image.encoded.startswith(MAGIC):
        raise ValueError("not an image")
    digest = hashlib.sha256(image.SerializeToString(deterministic=True)).digest()[:DIM]
    values = np.frombuffer(digest, dtype=np.uint8).astype(np.float32) - np.float32(127.5)
    return values / np.linalg.norm(values)
