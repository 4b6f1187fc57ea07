"""An EmbedRequest read from its wire format: the same image, or the same error, as by the generated parser."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given

from lookalike.vector_codec import field_header
from lookalike_server.domain.inference import RawImage
from lookalike_server.rpc.v1.raw_image_wire import embed_request
from support.raw_image_requests import REQUESTS, outcome, request


@given(REQUESTS)
@example(b"")
@example(request(1, 1, b"abc") + request(2, 1, b"abcdef"))
@example(request(1, 1, b"abc") + b"\x50\x01")
def test_every_request_reads_as_by_the_generated_parser(data: bytes) -> None:
    """Whatever the bytes: the same pixels, or the same error."""
    assert outcome(data, generated=False) == outcome(data, generated=True)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (224, 224), (50, 1), (1000, 700)])
def test_raw_pixels_are_not_copied(width: int, height: int) -> None:
    """The pixels of raw images of all sizes stay where they were received."""
    data = request(width, height, np.random.default_rng(1).bytes(3 * width * height))
    image = embed_request(data)
    assert isinstance(image, RawImage)
    assert image.pixels.shape == (height, width, 3)
    assert np.shares_memory(image.pixels, np.frombuffer(data, np.uint8))


def test_overlong_numbers_count_as_what_they_say() -> None:
    """A varint with needless bytes has the same value for both parsers."""
    raw = b"\x08\x81\x00" + b"\x10\x01" + field_header(3, 3) + b"abc"
    image = field_header(2, len(raw)) + raw
    data = field_header(1, len(image)) + image
    assert isinstance(embed_request(data), RawImage)
    assert outcome(data, generated=False) == outcome(data, generated=True)
