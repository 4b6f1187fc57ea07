"""Images and vectors of requests."""

from __future__ import annotations

import math

import numpy as np

from lookalike import vector_codec
from lookalike.v1 import image_pb2
from lookalike_server.domain.errors import invalid
from lookalike_server.domain.inference import EncodedImage, Floats, Image, Pixels, RawImage, Region


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
    count = len(message.values)
    if count != dim:
        raise invalid(f"{field}.values", f"has {count} dimensions; this model's embeddings have {dim}")
    values = vector_codec.from_vector(message)
    with np.errstate(over="ignore", invalid="ignore"):
        square = values @ values
    if 0.0 < square < math.inf:
        return values  # this suffices for nearly every vector; the others are very short or long, or wrong
    if not np.isfinite(values).all():
        raise invalid(f"{field}.values", "has a value that is NaN or infinite; send finite ones")
    if not values.any():
        raise invalid(f"{field}.values", "must not be all zeros")
    return values


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
