"""The words the server thinks in: plain frozen data.

Imports nothing of ours but `errors` and `filters`. Arrays are NumPy's: photos uint8 [height, width, 3] in RGB,
embeddings float32 [dim]. Durations are seconds (float), moments are `time.monotonic()`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lookalike_server.filters import Condition

Pixels: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float32]

MAX_ATTRIBUTES = 64
"""Attributes that a product may have; the API promises this number."""


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
    """Decoded pixels: uint8 [height, width, 3], RGB; `field` as of an encoded one."""

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
class Runtime:
    """How the model runs here."""

    provider: str
    ladder: Sequence[Rung]


@dataclass(frozen=True, slots=True)
class Product:
    """What a shop knows of a product."""

    id: str
    category: str
    title: str
    image_uri: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Once:
    """The name of a write that is done at most once: its request's, its place there, and a digest of what it says."""

    request_id: str
    item: str
    digest: str


@dataclass(frozen=True, slots=True)
class ProductDraft:
    """A product to store: its facts, and either one to eight photos or one to eight vectors (float32 [dim])."""

    product: Product
    photos: tuple[Photo, ...]
    vectors: tuple[Floats, ...]
    name: Once | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture file as it was sent, and the part of it that was embedded (None: all of it)."""

    sha256: str
    media_type: str
    data: bytes
    region: Region | None = None


@dataclass(frozen=True, slots=True)
class EmbeddedProduct:
    """A product with its embeddings: ready to store, or read back (then without pictures).

    Attributes:
        product: Its facts.
        vectors: float32 [images, dim], of length 1 where the metric is cosine.
        pictures: What each vector was made of, None where that is not kept; empty where none is.
    """

    product: Product
    vectors: Floats
    pictures: Sequence[Picture | None] = ()


@dataclass(frozen=True, slots=True)
class Removal:
    """A product to remove."""

    product_id: str
    name: Once | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """Attributes of a product to give values, and those to clear."""

    product_id: str
    values: Mapping[str, str]
    cleared: Sequence[str]
    name: Once | None = None


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One photo of one product in the index; `label` is never used again, so it names this version of the product."""

    label: int
    product_id: str
    image_index: int
    vector: Floats
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IndexChange:
    """What one committed transaction means for the index.

    Attributes:
        removed: Rows gone, by category and label.
        added: Rows new, by category.
        described: Rows whose attributes are now these and no others, by category and label.
    """

    removed: Sequence[tuple[str, int]] = ()
    added: Sequence[tuple[str, IndexRow]] = ()
    described: Sequence[tuple[str, int, Mapping[str, str]]] = ()


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A file of the index that can be trusted: its name, its size in bytes, and its sha256 in hexadecimal."""

    name: str
    size: int
    sha256: str


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
class Shape:
    """What of the nearest products is shown.

    Attributes:
        max_distance: None beyond this; infinite for no limit.
        group_by: An attribute; empty for no groups.
        group_limit: Of products that share a value of it, so many are shown.
        collapse: Products with the same embedding are one answer.
    """

    max_distance: float = math.inf
    group_by: str = ""
    group_limit: int = 1
    collapse: bool = False


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
    exact: bool = False
    conditions: tuple[Condition, ...] = ()
    shape: Shape = Shape()


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A product that looks like the question, and those that were made one with it."""

    product: Product
    distance: float
    similarity: float
    image_index: int
    duplicates: Sequence[Product] = ()


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
    """One partition: its products, how it is searched, and what share of exact answers that finds, where known."""

    name: str
    count: int
    kind: IndexKind
    recall: float | None
    attributes: Sequence[AttributeSeen] = field(default=())


@dataclass(frozen=True, slots=True)
class Question:
    """What one caller asks an index: the k products nearest to any of `vectors` (float32 [m, dim]) but `exclude`."""

    vectors: Floats
    k: int
    exclude: str | None = None
