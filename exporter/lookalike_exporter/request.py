"""The values an export starts from. Without TensorFlow, so that wrong usage is reported at once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Size = tuple[int, int]
"""Height and width, in pixels."""

Report = Callable[[str], None]
"""Takes one line of progress."""


@dataclass(frozen=True, slots=True)
class KnownNetwork:
    """One of `networks.backbone_names.BACKBONES`, with `imagenet`, `random` (by `seed`) or a weights file.

    `preprocess` None means the mode that its published weights were trained with.
    """

    architecture: str
    weights: str
    seed: int
    preprocess: str | None = None
    input_size: Size | None = None


@dataclass(frozen=True, slots=True)
class CustomNetwork:
    """A caller's Keras file, the preprocessing mode it was trained with, and the layer to end at (None: the last).

    `allow_classifier` says whether it may end in the classes of a classifier.
    """

    model: Path
    preprocess: str
    input_size: Size | None = None
    layer: str | None = None
    allow_classifier: bool = False


@dataclass(frozen=True, slots=True)
class PcaOptions:
    """The dimensions to project to, the image folder to fit to, and whether to center and whiten."""

    dim: int
    images: Path
    center: bool
    whiten: bool


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export and where to.

    Attributes:
        network: What to start from.
        out: The folder to create; its last part is the model's name.
        pooling: `avg`, `max` or `flatten`.
        metric: `cosine` or `euclidean`.
        resize: `bilinear` or `nearest`: how the server resizes images.
        color_management: `srgb` or `none`: what the server makes of color profiles in images.
        precision: `fp32`, `fp16` or `int8`.
        pca: None for no projection.
        calibration_images: For `int8`: a folder of images of the kind that will be searched.
        eval_images: Images to evaluate a precision or a projection on; None for others of the folder it is made with.
        min_recall: The least recall@10 that a variant must have; None for the default of its gate.
        allow_quality_drop: Whether a variant below its gate is written nevertheless.
        parity_images: A folder of images for the parity check; None for generated ones.
        force: Whether a model folder at `out` is replaced.
        arguments: Of the command, without `out` and `force`.
    """

    network: KnownNetwork | CustomNetwork
    out: Path
    pooling: str
    metric: str
    resize: str
    color_management: str
    precision: str
    pca: PcaOptions | None
    calibration_images: Path | None
    eval_images: Path | None
    min_recall: float | None
    allow_quality_drop: bool
    parity_images: Path | None
    force: bool
    arguments: tuple[str, ...] = ()
