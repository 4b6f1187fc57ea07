"""Embedding many photos with no caller waiting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from fakes import MeanColourSession, RecordingObserver
from lookalike_server.domain import EncodedPhoto, Photo, RawPhoto, Resize, Rung
from lookalike_server.errors import LookalikeError
from lookalike_server.inference.image import PhotoReader
from lookalike_server.inference.ladder import Plan
from lookalike_server.inference.offline import embed_all
from lookalike_server.protocols import Session

READER = PhotoReader(2, 2, Resize.BILINEAR, 1000, 1000)


class _Card(MeanColourSession):
    fixed_shapes = True


def plan(lanes: int, session: Session | None = None) -> Plan:
    """Batches of up to four in so many lanes."""
    session = session or MeanColourSession()
    return Plan(session, session, lanes, 4, tuple(Rung(size, 0.01, lanes) for size in (1, 4)), Rung(1, 0.01))


@dataclass
class Photos:
    """Photos of one colour each, named by it; remembers how many were asked for."""

    count: int
    broken: frozenset[int] = frozenset()
    taken: int = 0
    order: list[int] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[int, Photo]]:
        for number in range(self.count):
            self.taken += 1
            if number in self.broken:
                yield number, EncodedPhoto(b"broken", None, "picture")
            else:
                yield number, RawPhoto(np.full((2, 2, 3), number, np.uint8), None, "picture")


@pytest.mark.parametrize("lanes", [1, 3])
def test_every_photo_in_order(lanes: int) -> None:
    """Each photo gets its own embedding, in order and in full batches but for the last."""
    observer = RecordingObserver()
    batches = list(embed_all(Photos(22), READER, plan(lanes), 2, observer))
    assert [key for batch in batches for key in batch.keys] == list(range(22))
    assert [vector[0] for batch in batches for vector in batch.vectors] == list(range(22))
    assert sorted(observer.batches) == [2, 4, 4, 4, 4, 4]


def test_padded_where_shapes_are_fixed() -> None:
    """A provider that needs fixed shapes gets padded batches, and the padding is not among the answers."""
    (batch,) = embed_all(Photos(3), READER, plan(1, _Card()), 1, RecordingObserver())
    assert (batch.keys, batch.vectors.shape) == ([0, 1, 2], (3, 3))


def test_photos_that_cannot_be_read() -> None:
    """They are told with the reason, also when a whole batch is of them, and the others are embedded."""
    batches = list(embed_all(Photos(10, frozenset({1, 4, 5, 6, 7})), READER, plan(1), 1, RecordingObserver()))
    assert [key for batch in batches for key in batch.keys] == [0, 2, 3, 8, 9]
    refused = dict(each for batch in batches for each in batch.refused)
    assert refused == dict.fromkeys((1, 4, 5, 6, 7), "is not a JPEG, PNG, WebP, GIF or BMP picture")


@pytest.mark.parametrize(("lanes", "threads"), [(1, 1), (3, 4)])
def test_only_a_few_ahead(lanes: int, threads: int) -> None:
    """However many photos there are, only so many are read before the first of them are taken, and nothing at first."""
    photos = Photos(10_000)
    batches = embed_all(photos, READER, plan(lanes), threads, RecordingObserver())
    assert photos.taken == 0
    for number, batch in zip(range(1, 50), batches, strict=False):
        assert len(batch.keys) == 4
        assert photos.taken <= 4 * (number + lanes) + 4 + 2 * threads
    batches.close()


def test_a_model_that_fails() -> None:
    """The message says on how many photos and why, and the observer is told."""

    class Broken(MeanColourSession):
        def run(self, photos: object) -> object:  # type: ignore[override]
            raise RuntimeError("out of memory")

    observer = RecordingObserver()
    with pytest.raises(LookalikeError, match="failed on a batch of 4 photos: out of memory"):
        list(embed_all(Photos(4), READER, plan(1, Broken()), 1, observer))
    assert [size for size, _ in observer.failed_batches] == [4]
