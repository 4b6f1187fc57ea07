"""Decoding in a pool of threads, in front of which images wait by what they will take."""

from __future__ import annotations

import asyncio
import io
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from lookalike_server.domain.calls import Call
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.events import StageCompleted
from lookalike_server.domain.inference import EncodedImage, Image, RawImage, Resize
from lookalike_server.inference import image_decoding
from lookalike_server.inference.decoding_pool import DecodingPool
from lookalike_server.inference.image_decoding import ImageDecoder
from lookalike_server.inference.image_header import ImageHeader, read_header
from lookalike_server.scheduling.fair_queue import FairQueue
from support.fakes import RecordingObserver
from support.serving import until


def jpeg() -> bytes:
    """Make a JPEG."""
    file = io.BytesIO()
    Pillow.new("RGB", (64, 48), "red").save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("image", "reads"),
    [
        (EncodedImage(jpeg(), None, "image"), 1),
        (RawImage(np.zeros((64, 48, 3), np.uint8), None, "image"), 0),
        (RawImage(np.zeros((8, 8, 3), np.uint8), None, "image"), 0),
    ],
)
async def test_a_header_is_read_once(monkeypatch: pytest.MonkeyPatch, image: Image, reads: int) -> None:
    """What says how much memory an image will take is what it is decoded by; alone, each reads it for itself."""
    read: list[int] = []

    def counted(data: bytes) -> ImageHeader | None:
        read.append(len(data))
        return read_header(data)

    monkeypatch.setattr(image_decoding, "read_header", counted)
    decoder = ImageDecoder(8, 8, Resize.BILINEAR, 1_000_000, 1_000_000)
    with ThreadPoolExecutor(1) as threads:
        pool = DecodingPool(threads, 1, 1 << 20, 1.0)
        pixels, _ = await pool.decode(decoder, image, Call(0.0, float("inf")), bulk=True)
    assert len(read) == reads
    decoder.decoded_bytes(image)
    np.testing.assert_array_equal(decoder.decode(image), pixels)
    assert len(read) == 3 * reads


async def test_what_leaves_the_queue_is_reported() -> None:
    """An image whose caller goes, or whose deadline passes, in the queue is dropped; one that is too large is not."""
    observer = RecordingObserver()
    decoder = ImageDecoder(8, 8, Resize.BILINEAR, 1_000_000, 64 * 48)
    now = 0.0
    free = threading.Event()
    image = EncodedImage(jpeg(), None, "image")
    with ThreadPoolExecutor(1) as threads:
        pool = DecodingPool(threads, 1, 1 << 20, 1.0, lambda: now, observer)

        def decode(deadline: float, given: Image = image) -> asyncio.Task[Any]:
            return asyncio.create_task(pool.decode(decoder, given, Call(0.0, deadline), bulk=False))

        blocker = asyncio.create_task(pool.run(Call(0.0, math.inf), free.wait))
        gone, late, kept = decode(math.inf), decode(1.0), decode(math.inf)
        await until(lambda: pool.queue.lengths()[0].depth == 3)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert (observer.cancelled, observer.expired) == (1, 0)
        now = 2.0
        assert pool.queue.lengths()[0].oldest_seconds == 2.0
        free.set()
        await blocker
        await kept
        with pytest.raises(LookalikeError):
            await late
        assert (observer.cancelled, observer.expired) == (1, 1)
        large = RawImage(np.zeros((64, 49, 3), np.uint8), None, "image")
        with pytest.raises(LookalikeError):
            await decode(math.inf, large)
        assert (observer.cancelled, observer.expired) == (1, 1)
        assert [event.stage for event in observer.of(StageCompleted)] == ["decode"]


async def test_bytes_that_are_being_decoded() -> None:
    """What the queue lets in is counted in bytes while it is inside, and no longer."""
    queue = FairQueue(2, 1000)
    async with queue.enter(Call(0.0, math.inf), 300), queue.enter(Call(0.0, math.inf), 400):
        assert queue.units == 700
    assert queue.units == 0
