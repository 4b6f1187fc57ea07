"""Images, models and embeddings: plain frozen data.

Arrays are NumPy's: images uint8 [height, width, 3] in RGB, embeddings float32 [dim]. Durations are seconds (float),
times are `time.monotonic()`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Pixels: TypeAlias = npt.NDArray[np.uint8]

Floats: TypeAlias = npt.NDArray[np.float32]


class Resize(Enum):
    """How an image is resized to the model's input."""

    BILINEAR = "bilinear"
    NEAREST = "nearest"


@dataclass(frozen=True, slots=True)
class Region:
    """A box in an upright image, in fractions of its size; 0 <= left < right <= 1, 0 <= top < bottom <= 1."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image file's bytes; `field` is its path in the request, for errors."""

    data: bytes
    region: Region | None
    field: str


@dataclass(frozen=True, slots=True)
class RawImage:
    """Decoded pixels: uint8 [height, width, 3], RGB; `field` as in `EncodedImage`."""

    pixels: Pixels
    region: Region | None
    field: str


Image: TypeAlias = EncodedImage | RawImage


@dataclass(frozen=True, slots=True)
class BatchProfile:
    """A batch size and the model's latency for it in seconds, while `concurrency` such batches run at once."""

    batch_size: int
    seconds: float
    concurrency: int = 1


@dataclass(frozen=True, slots=True)
class Model:
    """A model as its folder describes it; `inference/manifest.py` reads the file."""

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
    """How the model runs on this machine."""

    provider: str
    batch_profiles: Sequence[BatchProfile]


class Metric(Enum):
    """How similarity is measured."""

    COSINE = "cosine"
    EUCLIDEAN = "euclidean"

    def similarity(self, distance: float) -> float:
        """Turn a distance into a similarity: the cosine itself, or 1 / (1 + distance)."""
        return 1.0 - distance if self is Metric.COSINE else 1.0 / (1.0 + distance)


@dataclass(frozen=True, slots=True)
class Call:
    """When a call arrived, and its deadline (infinite for none)."""

    arrived: float
    deadline: float

    def for_item(self) -> Call:
        """Return the call of an item of a stream that arrives now, with the same deadline."""
        return Call(time.monotonic(), self.deadline)


@dataclass(frozen=True, slots=True)
class ResponseStats:
    """How a response was computed: durations in seconds (0 for stages that did not run), batch and cache."""

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
class EmbedResult:
    """An embedding (float32 [dim]) and its stats."""

    vector: Floats
    stats: ResponseStats
