"""Embedding many images without callers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.inference import BatchProfile, EncodedImage, Image, RawImage, Resize
from lookalike_server.domain.protocols import Session
from lookalike_server.inference.image_decoding import ImageDecoder
from lookalike_server.inference.offline import embed_all
from lookalike_server.inference.plan import Plan
from support.fakes import MeanColorSession, RecordingObserver

DECODER = ImageDecoder(2, 2, Resize.BILINEAR, 1000, 1000)


class FixedShapesSession(MeanColorSession):
    """Needs padded batches."""

    fixed_shapes = True


def plan(max_concurrent_batches: int, session: Session | None = None) -> Plan:
    """Run batches of up to four, this many at once."""
    session = session or MeanColorSession()
    return Plan(
        session,
        session,
        max_concurrent_batches,
        4,
        tuple(BatchProfile(size, 0.01, max_concurrent_batches) for size in (1, 4)),
        BatchProfile(1, 0.01),
    )


@dataclass
class Images:
    """Images of one color each, which is the key; counts how many were read."""

    count: int
    broken: frozenset[int] = frozenset()
    read: int = 0
    order: list[int] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[int, Image]]:
        for number in range(self.count):
            self.read += 1
            if number in self.broken:
                yield number, EncodedImage(b"broken", None, "image")
            else:
                yield number, RawImage(np.full((2, 2, 3), number, np.uint8), None, "image")


@pytest.mark.parametrize("max_concurrent_batches", [1, 3])
def test_every_image_in_order(max_concurrent_batches: int) -> None:
    """Each image has its own embedding, in order and in full batches except for the last."""
    observer = RecordingObserver()
    batches = list(embed_all(Images(22), DECODER, plan(max_concurrent_batches), 2, observer))
    assert [key for batch in batches for key in batch.keys] == list(range(22))
    assert [vector[0] for batch in batches for vector in batch.vectors] == list(range(22))
    assert sorted(observer.batches) == [2, 4, 4, 4, 4, 4]


def test_padded_where_shapes_are_fixed() -> None:
    """A session with fixed shapes gets padded batches, and the padding is not in the result."""
    (batch,) = embed_all(Images(3), DECODER, plan(1, FixedShapesSession()), 1, RecordingObserver())
    assert (batch.keys, batch.vectors.shape) == ([0, 1, 2], (3, 3))


def test_images_that_cannot_be_read() -> None:
    """They are returned with the reason, also when a whole batch consists of them, and the others are embedded."""
    batches = list(embed_all(Images(10, frozenset({1, 4, 5, 6, 7})), DECODER, plan(1), 1, RecordingObserver()))
    assert [key for batch in batches for key in batch.keys] == [0, 2, 3, 8, 9]
    rejected = dict(each for batch in batches for each in batch.rejected)
    assert rejected == dict.fromkeys((1, 4, 5, 6, 7), "is not a JPEG, PNG, WebP, AVIF, GIF or BMP image")


@pytest.mark.parametrize(("max_concurrent_batches", "threads"), [(1, 1), (3, 4)])
def test_only_a_few_ahead(max_concurrent_batches: int, threads: int) -> None:
    """However many images there are, only a few are read ahead of the consumer, and none before it starts."""
    images = Images(10_000)
    batches = embed_all(images, DECODER, plan(max_concurrent_batches), threads, RecordingObserver())
    assert images.read == 0
    for number, batch in zip(range(1, 50), batches, strict=False):
        assert len(batch.keys) == 4
        assert images.read <= 4 * (number + max_concurrent_batches) + 4 + 2 * threads
    batches.close()


def test_a_model_that_fails() -> None:
    """The message has the number of images and the reason, and the observer gets the event."""

    class Broken(MeanColorSession):
        def run(self, images: object) -> object:  # type: ignore[override]
            raise RuntimeError("out of memory")

    observer = RecordingObserver()
    with pytest.raises(LookalikeError, match="failed on a batch of 4 images: out of memory"):
        list(embed_all(Images(4), DECODER, plan(1, Broken()), 1, observer))
    assert [size for size, _ in observer.failed_batches] == [4]
