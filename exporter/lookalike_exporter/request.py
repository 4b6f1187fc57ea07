"""What an export is asked for. Without TensorFlow, so that wrong usage is told at once."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class KnownNetwork:
    """A network of ours, by name, and `imagenet`, `random` (by `seed`) or a weights file.

    `preprocess` None means the mode that its published weights were trained with.
    """

    architecture: str
    weights: str
    seed: int
    preprocess: str | None = None
    input_size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class OwnNetwork:
    """A caller's Keras file, the preprocessing mode it was trained with, and the layer to end at (None: the last)."""

    model: Path
    preprocess: str
    input_size: tuple[int, int] | None = None
    layer: str | None = None


@dataclass(frozen=True, slots=True)
class Projected:
    """Onto how many numbers, fitted to the pictures of which folder."""

    components: int
    fit_on: Path
    centre: bool
    whiten: bool


@dataclass(frozen=True, slots=True)
class Request:
    """What to export and where to.

    Attributes:
        source: The network.
        out: The folder to make; its last part is the model's name.
        pooling: `avg`, `max` or `flatten`.
        metric: `cosine` or `euclidean`.
        resize: `bilinear` or `nearest`: how the server resizes photos.
        precision: `fp32`, `fp16` or `int8`.
        projection: None for none.
        calibrate_on: For `int8`: a folder of photos of the kind that will be searched.
        judge_on: Photos to judge a precision or a projection on; None for others of the folder that it was made with.
        min_overlap: The least share of the ten nearest that a variant must give; None for its usual gate.
        accept_worse: Whether a variant under its gate is written all the same.
        parity_images: A folder of photos for the parity check; None for generated ones.
        force: Whether a model folder at `out` is replaced.
        arguments: Of the command, but `out` and `force`.
    """

    source: KnownNetwork | OwnNetwork
    out: Path
    pooling: str
    metric: str
    resize: str
    precision: str
    projection: Projected | None
    calibrate_on: Path | None
    judge_on: Path | None
    min_overlap: float | None
    accept_worse: bool
    parity_images: Path | None
    force: bool
    arguments: tuple[str, ...] = ()
