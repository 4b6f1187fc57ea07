"""The messages that cost a server more than their sender."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from benchmarks.bad_messages import KEYS, BadMessage, bad_messages, blank_webp, interlaced_png
from PIL import Image

from lookalike.v1 import catalog_service_pb2, embedding_service_pb2

LIMIT = 1_000_000
MESSAGES = {message.key: message for message in bad_messages(LIMIT)}
IMAGES = [message for message in MESSAGES.values() if message.is_image and "blank" not in message.key]


def test_every_message_can_be_chosen() -> None:
    """The command line knows the key of each."""
    assert tuple(MESSAGES) == KEYS


def image_of(message: BadMessage, number: int = 0) -> bytes:
    """Return the image file in a message."""
    return embedding_service_pb2.EmbedRequest.FromString(message.request(number)).image.encoded


@pytest.mark.parametrize("message", IMAGES, ids=lambda message: message.key)
def test_an_image_is_below_the_limits(message: BadMessage) -> None:
    """It has about as many pixels as the server accepts, in a file that it accepts, and every copy is another file."""
    data = image_of(message)
    with Image.open(io.BytesIO(data)) as opened:
        opened.load()
        pixels = opened.width * opened.height
    assert pixels == 12_000_000 if message.key == "png" else 0.99 * LIMIT < pixels <= LIMIT
    assert len(data) < 10_485_760
    assert data != image_of(message, 1)


def test_formats_are_what_their_names_say() -> None:
    """The progressive JPEG and the interlaced PNG are, and so cannot be decoded in parts."""
    with Image.open(io.BytesIO(image_of(MESSAGES["jpeg-progressive"]))) as jpeg:
        assert jpeg.info["progressive"]
    with Image.open(io.BytesIO(image_of(MESSAGES["png-interlaced"]))) as png:
        assert png.info["interlace"]


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (8, 8), (37, 53)])
def test_an_interlaced_png_keeps_its_pixels(size: tuple[int, int]) -> None:
    """Pillow reads from the file what was written, also where some of its passes are empty."""
    pixels = np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(interlaced_png(pixels))) as opened:
        np.testing.assert_array_equal(np.asarray(opened), pixels)


def test_a_blank_webp_is_tiny() -> None:
    """Forty bytes say 49 million pixels."""
    data = blank_webp()
    assert len(data) <= 40
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.size == (16_383, 3_000)


@pytest.mark.parametrize(("key", "kilobytes"), [("gzip-41k", 41), ("gzip-65k", 65)])
def test_a_bomb_is_as_small_as_its_name_says(key: str, kilobytes: int) -> None:
    """Compressed as gRPC does it, the message has the size in its name, and fits into a message of 64 MiB when read."""
    request = MESSAGES[key].request(0)
    assert round(len(zlib.compress(request)) / 1000) == kilobytes
    assert len(request) < 64 << 20


def test_empty_messages_are_products() -> None:
    """Two bytes of the message are one product more for whoever reads it."""
    request = MESSAGES["empty-messages"].request(0)
    assert len(request) == 60_000_000
    assert len(catalog_service_pb2.UpsertProductsRequest.FromString(request[:200]).products) == 100
