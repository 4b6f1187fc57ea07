"""Images, models and embeddings: plain frozen data.

Arrays are NumPy's: images uint8 [height, width, 3] in RGB, embeddings float32 [dim]. Durations are seconds (float).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Pixels: TypeAlias = npt.NDArray[np.uint8]

Floats: TypeAlias = npt.NDArray[np.float32]


class Resize(Enum):
    """How an image is resized to the model's input."""

    BILINEAR = "bilinear"
    NEAREST = "nearest"


class ColorManagement(Enum):
    """What becomes of the color profile that is embedded in an image."""

    SRGB = "srgb"
    """The image is converted to sRGB by it."""
    NONE = "none"
    """It is ignored, as Keras ignores it."""


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
    color_management: ColorManagement = ColorManagement.NONE


@dataclass(frozen=True, slots=True)
class ParityBounds:
    """How far embeddings may be from ONNX Runtime's and still belong to the same digest; see `Parity`."""

    min_cosine: float
    min_overlap: float


@dataclass(frozen=True, slots=True)
class Parity:
    """How the embeddings of fixed images compare to those that ONNX Runtime computes in the graph's own precision.

    Attributes:
        min_cosine: The least cosine of an embedding and its reference, lowered where their lengths differ.
        overlap: The mean overlap of each image's ten nearest among the others, 0 to 1.
        within_bounds: Whether both are within the model's bounds, so that a catalog may hold either's embeddings.
    """

    min_cosine: float
    overlap: float
    within_bounds: bool

    def __str__(self) -> str:
        return f"least cosine {self.min_cosine:.6f}, overlap@10 {self.overlap:.3f}"


@dataclass(frozen=True, slots=True)
class Runtime:
    """How the model runs on this machine.

    Attributes:
        provider: An execution provider of ONNX Runtime, or "OpenVINO".
        library: The library and its version.
        precision: What it computes in.
        batch_profiles: The batches that it runs.
        parity: How its embeddings compare to the reference; None where it is the reference, or nothing can be compared.
        skipped: What else might have run the model, each with the reason why it does not.
    """

    provider: str
    library: str
    precision: str
    batch_profiles: Sequence[BatchProfile]
    parity: Parity | None = None
    skipped: Sequence[str] = ()


class Metric(Enum):
    """How similarity is measured."""

    COSINE = "cosine"
    EUCLIDEAN = "euclidean"

    def similarity(self, distance: float) -> float:
        """Turn a distance into a similarity: the cosine itself, or 1 / (1 + distance)."""
        return 1.0 - distance if self is Metric.COSINE else 1.0 / (1.0 + distance)


class ResponseStats(NamedTuple):
    """How a response was computed: durations in seconds (0 for stages that did not run), batch and cache.

    A tuple, because every call copies it with a field or two replaced: that takes a quarter of a dataclass's time.
    """

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
