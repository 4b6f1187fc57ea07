"""The results of a call: plain frozen values, so that no protobuf type leaves this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
import numpy as np
from numpy.typing import NDArray

from lookalike_client.errors import LookalikeError, Violation


@dataclass(frozen=True, slots=True)
class ResponseStats:
    """How the server spent its time on one response; 0 for stages that did not run.

    Attributes:
        decode_us: Decoding and resizing the image, in microseconds.
        queue_us: Waiting in the queue, in microseconds.
        inference_us: Running the whole batch, in microseconds.
        search_us: Searching the index and reading the products, in microseconds.
        total_us: From the request's arrival at the server to its response, in microseconds.
        batch_size: Images in the batch; 0 when the model did not run.
        padded_size: The size that the batch was padded to.
        cache_hit: Whether the embedding came from the server's cache.
        model_digest: The digest of the model.
        exact: Whether every vector in scope was compared; None when nothing was searched.
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
    """The embedding of an image.

    Attributes:
        values: float32 of shape [dim]; of norm 1 where the model's metric is cosine. Read-only.
        stats: How the server spent its time.
    """

    values: NDArray[np.float32]
    stats: ResponseStats

    def __repr__(self) -> str:
        first = ", ".join(f"{value:.4g}" for value in self.values[:4])
        return f"<Embedding [{first}, ...] of {self.values.size} in {self.stats.total_us / 1000:.1f} ms>"


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """The result of one of many images: exactly one of `embedding` and `error` is set.

    Attributes:
        id: The caller's id of the image.
        embedding: Its embedding.
        error: What `embed` would have raised.
    """

    id: str
    embedding: Embedding | None = None
    error: LookalikeError | None = None


@dataclass(frozen=True, slots=True)
class BatchProfile:
    """A measurement of the model, taken when the server started.

    Attributes:
        batch_size: Images in a batch.
        concurrency: Batches that run at the same time.
        latency_ms: How long such a batch takes at this concurrency, in milliseconds.
    """

    batch_size: int
    concurrency: int
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Parity:
    """How embeddings compare to those that ONNX Runtime computes of the same images in the graph's precision.

    Attributes:
        min_cosine: The least cosine of an embedding and its counterpart, lowered where their lengths differ.
        overlap: The mean overlap of each image's ten nearest others, 0 to 1.
        within_bounds: Whether both are within the model's bounds.
    """

    min_cosine: float
    overlap: float
    within_bounds: bool


@dataclass(frozen=True, slots=True)
class Runtime:
    """What computes the embeddings on the server's machine.

    Attributes:
        library: The library and its version, for instance "OpenVINO 2026.4.1".
        precision: What it computes in: "fp32", "bf16", "fp16" or "int8".
        parity: How its embeddings compare to ONNX Runtime's; None where ONNX Runtime itself runs the model.
        skipped: What else might have run the model, each with the reason why it does not.
    """

    library: str
    precision: str
    parity: Parity | None = None
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """The model that the server runs.

    Attributes:
        name: The name of the model's folder.
        backbone: The network, for instance "resnet50".
        weights: Where its weights come from: "imagenet", "random(seed=N)" (results are meaningless), "file:...".
        dim: The dimension of an embedding.
        metric: "cosine" (distance = 1 - cosine) or "euclidean" (distance = L2).
        input_width: The model's input width in pixels.
        input_height: The model's input height in pixels.
        resize: How an image is resized to that size: "bilinear" or "nearest".
        pooling: "avg", "max", "flatten" or "model".
        precision: The precision of its graph: "fp32", "fp16" or "int8".
        digest: The sha256 of the graph; embeddings of different digests cannot be compared.
        provider: What runs it: a provider of ONNX Runtime, or "OpenVINO".
        runtime: What computes the embeddings; None from a server that does not say.
        batch_profiles: What an idle server runs for a single image, then what a busy one runs, smallest batch first.
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
    runtime: Runtime | None = None

    @property
    def is_random(self) -> bool:
        """Whether the weights are untrained, so that results are meaningless."""
        return self.weights.startswith("random")


@dataclass(frozen=True, slots=True)
class Product:
    """A product of the catalog.

    Attributes:
        id: The shop's id, unique over all categories.
        category: The partition it is searched in.
        title: The title to show; may be empty.
        image_uri: Where the shop keeps the image; the server never opens it. May be empty.
        attributes: Values by name.
    """

    id: str
    category: str
    title: str = ""
    image_uri: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class StoredProduct:
    """A product and the count of its images (or vectors), 1 to 8."""

    product: Product
    image_count: int


@dataclass(frozen=True, slots=True, eq=False)
class ExportedProduct:
    """A product with its embeddings, which `ProductInput.vectors` accepts.

    Attributes:
        product: The product.
        vectors: float32 of shape [images, dim], a row for each of its 1 to 8 images in their order; of norm 1 where
            the model's metric is cosine. Read-only.
    """

    product: Product
    vectors: NDArray[np.float32]

    def __repr__(self) -> str:
        images, dim = self.vectors.shape
        return (
            f"<ExportedProduct {self.product.id!r} in {self.product.category!r}, {images} vectors of dimension {dim}>"
        )


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image of a product, byte for byte as it was sent; pixels become a PNG.

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
    """A product similar to the query.

    Attributes:
        product: The product.
        distance: Its distance in the model's metric: cosine 0 (identical) to 2, euclidean 0 or more.
        similarity: Greater is more similar: the cosine, or 1 / (1 + distance).
        image_index: Which of the product's images is nearest, counted from 0.
        duplicates: The products that `collapse_duplicates` merged into this one, nearest first.
    """

    product: Product
    distance: float
    similarity: float
    image_index: int = 0
    duplicates: tuple[Product, ...] = ()

    def __repr__(self) -> str:
        product = f"{self.product.id!r} {self.product.title!r} in {self.product.category!r}"
        return f"<Neighbor {product}, similarity {self.similarity:.4f}, distance {self.distance:.4f}>"


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The products most similar to the query: nearest first, then by id, none twice."""

    neighbors: list[Neighbor]
    stats: ResponseStats


@dataclass(frozen=True, slots=True)
class ItemStatus:
    """The status of one item of a request that has many.

    Attributes:
        id: The product's id as it was sent.
        code: OK when done and durable; otherwise the code that a call for this item alone would have had.
        message: Why not; empty when done.
        violations: The invalid fields, if any.
        retry_after: Seconds after which to retry, or None.
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
        """The error that a call for this item alone would have raised; None when done."""
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
    """An attribute in a category: the count of its distinct values, and up to 100 of the most frequent ones."""

    name: str
    distinct_values: int
    top_values: tuple[ValueCount, ...]


@dataclass(frozen=True, slots=True)
class Category:
    """A category: one partition of the index.

    Attributes:
        name: Its name.
        count: Products in it.
        index_kind: Its index at present: "flat" (exact) or "hnsw" (approximate).
        attributes: Its products' attributes, by name; empty unless requested.
        recall: The recall of its graphs in recent searches, 0 to 1; None where none was sampled yet, or where the index
            is exact.
    """

    name: str
    count: int
    index_kind: str
    attributes: tuple[AttributeFacet, ...] = ()
    recall: float | None = None
