"""Embedding many images with no caller waiting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.inference import BatchProfile, EncodedImage, Image, RawImage, Resize
from lookalike_server.domain.protocols import Session
from lookalike_server.inference.autotune import Plan
from lookalike_server.inference.image_decoding import ImageDecoder
from lookalike_server.inference.offline import embed_all
from support.fakes import MeanColorSession, RecordingObserver

READER = ImageDecoder(2, 2, Resize.BILINEAR, 1000, 1000)


class _Card(MeanColorSession):
    fixed_shapes = True


def plan(max_concurrent_batches: int, session: Session | None = None) -> Plan:
    """Batches of up to four in so many max_concurrent_batches."""
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
    """Images of one color each, named by it; remembers how many were asked for."""

    count: int
    broken: frozenset[int] = frozenset()
    taken: int = 0
    order: list[int] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[int, Image]]:
        for number in range(self.count):
            self.taken += 1
            if number in self.broken:
                yield number, EncodedImage(b"broken", None, "image")
            else:
                yield number, RawImage(np.full((2, 2, 3), number, np.uint8), None, "image")


@pytest.mark.parametrize("max_concurrent_batches", [1, 3])
def test_every_image_in_order(max_concurrent_batches: int) -> None:
    """Each image gets its own embedding, in order and in full batches but for the last."""
    observer = RecordingObserver()
    batches = list(embed_all(Images(22), READER, plan(max_concurrent_batches), 2, observer))
    assert [key for batch in batches for key in batch.keys] == list(range(22))
    assert [vector[0] for batch in batches for vector in batch.vectors] == list(range(22))
    assert sorted(observer.batches) == [2, 4, 4, 4, 4, 4]


def test_padded_where_shapes_are_fixed() -> None:
    """A provider that needs fixed shapes gets padded batches, and the padding is not among the answers."""
    (batch,) = embed_all(Images(3), READER, plan(1, _Card()), 1, RecordingObserver())
    assert (batch.keys, batch.vectors.shape) == ([0, 1, 2], (3, 3))


def test_images_that_cannot_be_read() -> None:
    """They are told with the reason, also when a whole batch is of them, and the others are embedded."""
    batches = list(embed_all(Images(10, frozenset({1, 4, 5, 6, 7})), READER, plan(1), 1, RecordingObserver()))
    assert [key for batch in batches for key in batch.keys] == [0, 2, 3, 8, 9]
    rejected = dict(each for batch in batches for each in batch.rejected)
    assert rejected == dict.fromkeys((1, 4, 5, 6, 7), "is not a JPEG, PNG, WebP, GIF or BMP image")


@pytest.mark.parametrize(("max_concurrent_batches", "threads"), [(1, 1), (3, 4)])
def test_only_a_few_ahead(max_concurrent_batches: int, threads: int) -> None:
    """However many images there are, only so many are read before the first of them are taken, and nothing at first."""
    images = Images(10_000)
    batches = embed_all(images, READER, plan(max_concurrent_batches), threads, RecordingObserver())
    assert images.taken == 0
    for number, batch in zip(range(1, 50), batches, strict=False):
        assert len(batch.keys) == 4
        assert images.taken <= 4 * (number + max_concurrent_batches) + 4 + 2 * threads
    batches.close()


def test_a_model_that_fails() -> None:
    """The message says on how many images and why, and the observer is told."""

    class Broken(MeanColorSession):
        def run(self, images: object) -> object:  # type: ignore[override]
            raise RuntimeError("out of memory")

    observer = RecordingObserver()
    with pytest.raises(LookalikeError, match="failed on a batch of 4 images: out of memory"):
        list(embed_all(Images(4), READER, plan(1, Broken()), 1, observer))
    assert [size for size, _ in observer.failed_batches] == [4]
