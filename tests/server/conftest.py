"""Indexes for the tests of the embedded index."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from brute_force import DIM, MakeIndex
from fakes import RecordingObserver
from lookalike_server.domain import Metric
from lookalike_server.index.hnsw import HnswSettings
from lookalike_server.index.partitioned import PartitionedIndex
from lookalike_server.index.segment import PartitionSettings


@pytest.fixture
def observer() -> RecordingObserver:
    """What the indexes of a test report."""
    return RecordingObserver()


@pytest.fixture
def make_index(observer: RecordingObserver) -> Iterator[MakeIndex]:
    """Makes indexes and closes them."""
    made = []

    def build(
        flat_limit: int,
        metric: Metric = Metric.COSINE,
        dim: int = DIM,
        hnsw: HnswSettings | None = None,
        segment_rows: int = 16_384,
    ) -> PartitionedIndex:
        settings = PartitionSettings(dim, metric, flat_limit, hnsw or HnswSettings(), segment_rows)
        index = PartitionedIndex(settings, observer)
        made.append(index)
        return index

    yield build
    for index in made:
        index.close()
