"""Images and vectors of requests."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lookalike import vector_codec
from lookalike.v1 import image_pb2
from lookalike_server.domain.errors import invalid
from lookalike_server.domain.inference import EncodedImage, Floats, Image, Pixels, RawImage, Region
from lookalike_server.domain.vectors import joined


def image(message: image_pb2.Image, field: str) -> Image:
    """Read an image; whether it can be decoded turns out later, off the event loop."""
    kind = message.WhichOneof("source")
    region = _region(message.region, f"{field}.region") if message.HasField("region") else None
    if kind == "encoded":
        return EncodedImage(message.encoded, region, f"{field}.encoded")
    if kind == "rgb":
        return RawImage(_pixels(message.rgb, f"{field}.rgb"), region, f"{field}.rgb")
    raise invalid(field, "is empty; send `encoded` (the bytes of an image file) or `rgb` (pixels)")


def vector(message: image_pb2.Vector, field: str, dim: int) -> Floats:
    """Read an embedding: float32 [dim], finite, not all zeros."""
    values = vector_codec.from_vector(message)
    problem = _problem(values) if len(values) == dim else _dimensions(len(values), dim)
    if problem is not None:
        raise invalid(f"{field}.values", problem)
    return values


def checked_vectors(received: Sequence[Sequence[Floats]], dim: int) -> list[list[Floats | str]]:
    """Check the embeddings of several products at once.

    Args:
        received: Those of each product, float32 [any].
        dim: How many dimensions they must have.

    Returns:
        For each what is wrong with it, or a row of one matrix: float32 [dim], finite, not all zeros.
    """
    whole = [values for own in received for values in own if len(values) == dim]
    rows = joined(whole) if whole else np.empty((0, dim), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.vecdot(rows, rows).tolist()
    # This suffices for nearly every vector; the others are very short or long, or wrong.
    checked = iter(
        [row if 0.0 < square < math.inf else _problem(row) or row for row, square in zip(rows, squares, strict=True)]
    )
    return [
        [next(checked) if len(values) == dim else _dimensions(len(values), dim) for values in own] for own in received
    ]


def _dimensions(count: int, dim: int) -> str:
    return f"has {count} dimensions; this model's embeddings have {dim}"


def _problem(values: Floats) -> str | None:
    if not np.isfinite(values).all():
        return "has a value that is NaN or infinite; send finite ones"
    return None if values.any() else "must not be all zeros"


def _pixels(raw: image_pb2.RawImage, field: str) -> Pixels:
    for side, pixels in (("width", raw.width), ("height", raw.height)):
        if pixels == 0:
            raise invalid(f"{field}.{side}", "is 0; an image has at least one pixel")
    data = raw.data  # once: every access copies the bytes
    expected = raw.width * raw.height * 3
    if len(data) != expected:
        raise invalid(
            f"{field}.data", f"has {len(data)} bytes; {raw.width} x {raw.height} x 3 channels need {expected}"
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(raw.height, raw.width, 3)


def _region(region: image_pb2.Region, field: str) -> Region:
    for low, high, sides in (
        (region.left, region.right, "left < right"),
        (region.top, region.bottom, "top < bottom"),
    ):
        if not 0.0 <= low < high <= 1.0:
            raise invalid(field, f"must hold 0 <= {sides} <= 1, in fractions of the image; got {low} and {high}")
    return Region(region.left, region.top, region.right, region.bottom)
