"""What callers get back: plain frozen values, so that no protobuf type leaves this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
import numpy as np
from numpy.typing import NDArray

from lookalike_client.errors import LookalikeError, Violation


@dataclass(frozen=True, slots=True)
class ResponseStats:
    """What one answer cost; stages that did not take place are 0.

    Attributes:
        decode_us: Turning the image into model input, in microseconds.
        queue_us: Waiting for the model, in microseconds.
        inference_us: The model's run of the whole batch, in microseconds.
        search_us: Searching the index and reading the products, in microseconds.
        total_us: From the request's arrival in the server to its answer, in microseconds.
        batch_size: Images that shared the batch; 0 when the model did not run.
        padded_size: Rows that the batch was padded to.
        cache_hit: Whether the embedding came from the server's cache.
        model_digest: The digest of the model that answered.
        exact: Whether every row that could be an answer was compared; None when nothing was searched.
    """

    decode_us: int
    queue_us: int
    inference_us: int
    search_us: int
    total_us: int
    batch_size: int
    padded_size: int
    cache_hit: bool
    model_digest: str
    exact: bool | None


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """What the model sees in an image.

    Attributes:
        values: float32 of shape [dim]; of length 1 where the model's metric is cosine. Read-only.
        stats: What it cost.
    """

    values: NDArray[np.float32]
    stats: ResponseStats

    def __repr__(self) -> str:
        first = ", ".join(f"{value:.4g}" for value in self.values[:4])
        return f"<Embedding [{first}, ...] of {self.values.size} in {self.stats.total_us / 1000:.1f} ms>"


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """What became of one of many images: exactly one of `embedding` and `error` is there.

    Attributes:
        id: The caller's name for the image.
        embedding: What the model sees in it.
        error: What an Embed of its own would have raised.
    """

    id: str
    embedding: Embedding | None = None
    error: LookalikeError | None = None


@dataclass(frozen=True, slots=True)
class BatchProfile:
    """One way to run the model, measured when the server started.

    Attributes:
        batch_size: Images in a batch.
        concurrency: Batches of this size that run at the same time.
        latency_ms: The time the model takes for such a batch at that concurrency, in milliseconds.
    """

    batch_size: int
    concurrency: int
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Model:
    """The model that answers.

    Attributes:
        name: The name of the model's folder.
        backbone: The network, for instance "resnet50".
        weights: Where its weights come from: "imagenet", "random(seed=N)" (answers mean nothing), "file:...".
        dim: Numbers in an embedding.
        metric: "cosine" (distance = 1 - cosine) or "euclidean" (distance = L2).
        input_width: The model's input width in pixels.
        input_height: The model's input height in pixels.
        resize: How an image comes to that size: "bilinear" or "nearest".
        pooling: "avg", "max", "flatten" or "model".
        precision: "fp32", "fp16" or "int8".
        digest: The sha256 of the graph; embeddings of different digests cannot be compared.
        provider: The ONNX Runtime provider that runs it.
        batch_profiles: A single image on an idle server, then what a busy one runs, smallest first.
    """

    name: str
    backbone: str
    weights: str
    dim: int
    metric: str
    input_width: int
    input_height: int
    resize: str
    pooling: str
    precision: str
    digest: str
    provider: str
    batch_profiles: tuple[BatchProfile, ...] = ()

    @property
    def is_random(self) -> bool:
        """Whether nobody trained it, so that its answers mean nothing."""
        return self.weights.startswith("random")


@dataclass(frozen=True, slots=True)
class Product:
    """What the shop knows of a product.

    Attributes:
        id: The shop's own id, unique over all categories.
        category: The partition it is searched in.
        title: A name to show; may be empty.
        image_uri: Where the shop keeps the image; the server never opens it. May be empty.
        attributes: Facts by name.
    """

    id: str
    category: str
    title: str = ""
    image_uri: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class StoredProduct:
    """A product as the server holds it, found by `image_count` images (or vectors), 1 to 8."""

    product: Product
    image_count: int


@dataclass(frozen=True, slots=True, eq=False)
class Exported:
    """A product with the embeddings it is found by, which `ProductInput.vectors` takes back.

    Attributes:
        product: What the shop knows of it.
        vectors: float32 of shape [images, dim], a row for each of its images in their order, 1 to 8; of length 1 where
            the model's metric is cosine. Read-only.
    """

    product: Product
    vectors: NDArray[np.float32]

    def __repr__(self) -> str:
        images, dim = self.vectors.shape
        return f"<Exported {self.product.id!r} in {self.product.category!r}, {images} vectors of {dim}>"


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image of a product, byte for byte as it was sent; one that was sent as pixels is a PNG.

    Attributes:
        data: The file.
        media_type: For instance "image/jpeg".
        sha256: The sha256 of the file in hexadecimal.
    """

    data: bytes
    media_type: str
    sha256: str

    def __repr__(self) -> str:
        return f"<StoredImage {self.media_type}, {len(self.data)} bytes, sha256 {self.sha256[:12]}>"


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A product that looks like the query.

    Attributes:
        product: The product.
        distance: How far away it is in the model's metric: cosine 0 (identical) to 2, euclidean 0 or more.
        similarity: Greater is closer: the cosine itself, or 1 / (1 + distance).
        image_index: Which of the product's images is nearest, counted from 0.
        duplicates: The products that `collapse_duplicates` made one with this one, nearest first.
    """

    product: Product
    distance: float
    similarity: float
    image_index: int = 0
    duplicates: tuple[Product, ...] = ()

    def __repr__(self) -> str:
        about = f"{self.product.id!r} {self.product.title!r} in {self.product.category!r}"
        return f"<Neighbor {about}, similarity {self.similarity:.4f}, distance {self.distance:.4f}>"


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The products that look most like the query: nearest first, equally near ones by id, none twice."""

    neighbors: list[Neighbor]
    stats: ResponseStats


@dataclass(frozen=True, slots=True)
class ItemStatus:
    """What became of one item of a request that carries many.

    Attributes:
        id: The product's id as it was sent.
        code: OK when done and durable; otherwise what a call of its own would have answered.
        message: Why not; empty when done.
        violations: The fields that are to blame, if any.
        retry_after: Seconds after which a repeat makes sense, or None.
    """

    id: str
    code: grpc.StatusCode
    message: str = ""
    violations: tuple[Violation, ...] = ()
    retry_after: float | None = None

    @property
    def ok(self) -> bool:
        """Whether it is done and durable."""
        return self.code is grpc.StatusCode.OK

    @property
    def error(self) -> LookalikeError | None:
        """The error that a call of its own would have raised; None when done."""
        if self.ok:
            return None
        return LookalikeError(self.code, self.message, self.violations, self.retry_after)


@dataclass(frozen=True, slots=True)
class ValueCount:
    """A value of an attribute and how many products have it."""

    value: str
    count: int


@dataclass(frozen=True, slots=True)
class AttributeFacet:
    """An attribute in a category: its different values, and up to 100 of the most frequent ones."""

    name: str
    distinct_values: int
    top_values: tuple[ValueCount, ...]


@dataclass(frozen=True, slots=True)
class Category:
    """A category: one partition of the index.

    Attributes:
        name: Its name.
        count: Products in it.
        index_kind: How it is searched at present: "flat" (exact) or "hnsw" (approximate).
        attributes: The attributes its products have, by name; empty unless asked for.
        recall: The share of the exact answers that its graphs found of late, 0 to 1; None where none was compared yet,
            or every row is compared anyway.
    """

    name: str
    count: int
    index_kind: str
    attributes: tuple[AttributeFacet, ...] = ()
    recall: float | None = None
