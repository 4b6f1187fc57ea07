"""Optimize an fp32 graph for a kind of processor: fp16 for GPUs, int8 for CPUs."""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from lookalike_exporter.errors import ExportError
from lookalike_exporter.images import ImageSet
from lookalike_exporter.variants.int8 import PERCENTILE, calibrate, fp32_choices, quantize
from lookalike_exporter.variants.structure import head_nodes, serialize_like

CALIBRATION_IMAGES = 64
"""Images that int8 is calibrated on, at most."""

_MIN_CALIBRATION_IMAGES = 16


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the ranges of an int8 graph were taken from."""

    percentile: float
    images: int
    images_sha256: str


@dataclass(frozen=True, slots=True)
class Variant:
    """A serialized graph in another precision; for int8 the nodes left in fp32 and the calibration."""

    graph: bytes
    fp32_nodes: tuple[str, ...] = ()
    calibration: Calibration | None = None


def to_fp16(graph: bytes) -> Variant:
    """Convert an fp32 graph to half precision, its input, output and head excepted."""
    model = onnx.load_from_string(graph)
    half = convert_float_to_float16(model, keep_io_types=True, node_block_list=head_nodes(model))
    return Variant(serialize_like(model, half))


def to_int8(graph: bytes, images: ImageSet) -> Iterator[Variant]:
    """Quantize an fp32 graph: with the first layer, the last, both or none of them left in fp32.

    Args:
        graph: Serialized, fp32.
        images: To calibrate on.

    Returns:
        The variants, made one by one, those with the fewest layers in fp32 first.

    Raises:
        ExportError: Too few images to calibrate on.
    """
    if len(images) < _MIN_CALIBRATION_IMAGES:
        raise ExportError(
            f"--calibration-images {images.folder}: {_MIN_CALIBRATION_IMAGES} images or more are needed, "
            f"there are {len(images)}"
        )
    ranges = calibrate(graph, images)
    calibration = Calibration(PERCENTILE, len(images), images.digest)
    return (Variant(quantize(graph, ranges, nodes), nodes, calibration) for nodes in fp32_choices(graph))
