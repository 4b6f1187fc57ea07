"""The words the server thinks in: plain frozen data and the Protocols that stages meet each other through.

Imports nothing of ours but `errors`. Arrays are NumPy's: photos uint8 [height, width, 3] in RGB, embeddings float32
[dim]. Durations are seconds (float), moments are `time.monotonic()`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Pixels: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float32]


class Metric(Enum):
    """How likeness is measured."""

    COSINE = "cosine"
    EUCLIDEAN = "euclidean"

    def similarity(self, distance: float) -> float:
        """Of a distance: the cosine itself, or 1 / (1 + distance)."""
        return 1.0 - distance if self is Metric.COSINE else 1.0 / (1.0 + distance)


class Resize(Enum):
    """How a photo comes to the model's input size."""

    BILINEAR = "bilinear"
    NEAREST = "nearest"


class IndexKind(Enum):
    """How a category is searched: every row compared, or an HNSW graph choosing the rows."""

    FLAT = "flat"
    HNSW = "hnsw"


@dataclass(frozen=True, slots=True)
class Region:
    """A box in an upright photo, in fractions of its size; 0 <= left < right <= 1, 0 <= top < bottom <= 1."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class EncodedPhoto:
    """A picture file's bytes; `field` is where the caller put it, for error messages."""

    data: bytes
    region: Region | None
    field: str


@dataclass(frozen=True, slots=True)
class RawPhoto:
    """Decoded pixels: uint8 [height, width, 3], RGB."""

    pixels: Pixels
    region: Region | None
    field: str


Photo: TypeAlias = EncodedPhoto | RawPhoto


@dataclass(frozen=True, slots=True)
class Rung:
    """A batch size and the model's time for it in seconds while `lanes` such batches run at once."""

    batch_size: int
    seconds: float
    lanes: int = 1


@dataclass(frozen=True, slots=True)
class Model:
    """What a model folder says of itself; see `inference/manifest.py` for the file."""

    name: str
    backbone: str
    weights: str
    digest: str
    height: int
    width: int
    resize: Resize
    pooling: str
    dim: int
    metric: Metric
    precision: str


@dataclass(frozen=True, slots=True)
class Product:
    """What a shop knows of a product."""

    id: str
    category: str
    title: str
    image_uri: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ProductDraft:
    """A product to store: its facts, and either one to eight photos or one to eight vectors (float32 [dim])."""

    product: Product
    photos: tuple[Photo, ...]
    vectors: tuple[Floats, ...]


@dataclass(frozen=True, slots=True)
class EmbeddedProduct:
    """A product ready to store; `vectors` is float32 [images, dim], of length 1 where the metric is cosine."""

    product: Product
    vectors: Floats


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One photo of one product in the index; `label` is never used again, so it names this version of the product."""

    label: int
    product_id: str
    image_index: int
    vector: Floats


@dataclass(frozen=True, slots=True)
class IndexChange:
    """What one committed transaction means for the index: rows gone by (category, label), rows new by category."""

    removed: Sequence[tuple[str, int]]
    added: Sequence[tuple[str, IndexRow]]


@dataclass(frozen=True, slots=True)
class Hit:
    """A product found: its nearest photo and how far away that is."""

    product_id: str
    image_index: int
    distance: float


@dataclass(frozen=True, slots=True)
class Hits:
    """What a search found, nearest first, equally near by product id, and whether it compared every row."""

    hits: Sequence[Hit]
    exact: bool


@dataclass(frozen=True, slots=True)
class Call:
    """One call's moments: when it arrived, and after when its answer is of no use (infinite for never)."""

    arrived: float
    deadline: float

    def again(self) -> Call:
        """The call of an item that arrives now, under the same deadline."""
        return Call(time.monotonic(), self.deadline)


@dataclass(frozen=True, slots=True)
class Query:
    """A question: exactly one of `photo`, `vector` (float32 [dim]) and `product_id`.

    `category` None means every category, or with `product_id` and without `all_categories` the product's own.
    """

    photo: Photo | None = None
    vector: Floats | None = None
    product_id: str | None = None
    category: str | None = None
    all_categories: bool = False
    k: int = 10
    max_distance: float | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A product that looks like the question."""

    product: Product
    distance: float
    similarity: float
    image_index: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one answer cost, in seconds, and how it came about; stages that did not take place are 0."""

    decode: float = 0.0
    queue: float = 0.0
    inference: float = 0.0
    search: float = 0.0
    total: float = 0.0
    batch_size: int = 0
    padded_size: int = 0
    cache_hit: bool = False
    model_digest: str = ""
    exact: bool | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """An embedding (float32 [dim]) and what it cost so far."""

    vector: Floats
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Answer:
    """The neighbours, nearest first, and what they cost."""

    neighbors: Sequence[Neighbor]
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Page:
    """Products in the order of their ids, and the id after which the next page begins (None: this was the last)."""

    products: Sequence[Product]
    next_after: str | None


@dataclass(frozen=True, slots=True)
class AttributeSeen:
    """An attribute in a category: how many different values, and the most frequent of them with their counts."""

    name: str
    distinct_values: int
    top_values: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Category:
    """One partition: its products and how it is searched."""

    name: str
    count: int
    kind: IndexKind
    attributes: Sequence[AttributeSeen] = field(default=())


class Session(Protocol):
    """A loaded model. Several threads may run it at once."""

    @property
    def provider(self) -> str:
        """The ONNX Runtime provider that runs it."""

    @property
    def fixed_shapes(self) -> bool:
        """Whether every new batch size costs it dearly, so that batches are padded to a few."""

    @property
    def gains_from_lanes(self) -> bool:
        """Whether runs side by side can be faster than one after another."""

    def run(self, photos: Pixels) -> Floats:
        """Embed uint8 [n, height, width, 3]: float32 [n, dim]."""


@dataclass(frozen=True, slots=True)
class Question:
    """What one caller asks an index: the k products nearest to any of `vectors` (float32 [m, dim]) but `exclude`."""

    vectors: Floats
    k: int
    exclude: str | None = None


class VectorIndex(Protocol):
    """Nearest products by category. `search` and `kind` may run in any thread beside one thread that calls `apply`."""

    def apply(self, change: IndexChange) -> None:
        """Take in one committed change; it is visible to every search that starts after the return."""

    def kind(self, category: str) -> IndexKind:
        """How this category is searched at present."""

    def holds(self, category: str) -> bool:
        """Whether any product is in this category; at once, without asking a disk or a network."""

    def search(self, questions: Sequence[Question], *, category: str | None, exact: bool) -> list[Hits]:
        """Answer questions about one category (None: all of them) together, each by itself.

        An unknown category has no hits.
        """


class Observer(Protocol):
    """Hears what the stages do, so that metrics, logs and tests need no code of their own in them."""

    def batch_ran(self, size: int, padded: int, seconds: float) -> None:
        """The model ran a batch of `size` photos in `padded` rows."""

    def batch_failed(self, size: int, error: Exception) -> None:
        """The model raised; the callers of this batch were told."""

    def entries_dropped(self, cancelled: int, expired: int) -> None:
        """Photos left the queue before the model saw them."""

    def search_fell_back(self, category: str) -> None:
        """An HNSW graph gave too few rows or failed, and the exact search answered in its place."""

    def item_failed(self, error: Exception) -> None:
        """One item of a request failed by a fault of ours; its caller was told no more than that."""

    def photo_reused(self, *, cached: bool) -> None:
        """A photo's embedding was in the cache, or (not `cached`) the same photo was on its way already."""

    def call_ended(self, method: str, code: str, seconds: float, request_id: str, fault: Exception | None) -> None:
        """A call was answered with this code; `fault` is set where the cause is ours and was kept from the caller."""
