"""Indexes for the tests of the embedded index, and writers for those of the store's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lookalike_server.domain.inference import Metric
from lookalike_server.index.category_index import CategoryIndex
from lookalike_server.index.hnsw import HnswSettings
from lookalike_server.index.segment import PartitionSettings
from lookalike_server.store.wal import Wal
from lookalike_server.store.writer import Writer
from support.fakes import RecordingObserver
from support.index_model import DIM, MakeIndex
from support.writer_fakes import Told, Watched


@pytest.fixture
def observer() -> RecordingObserver:
    """What the indexes of a test report."""
    return RecordingObserver()


@pytest.fixture
def make_index(observer: RecordingObserver) -> Iterator[MakeIndex]:
    """Makes indexes and closes them."""
    made = []

    def build(
        full_scan_threshold: int,
        metric: Metric = Metric.COSINE,
        dim: int = DIM,
        hnsw: HnswSettings | None = None,
        max_segment_rows: int = 16_384,
    ) -> CategoryIndex:
        settings = PartitionSettings(dim, metric, full_scan_threshold, hnsw or HnswSettings(), max_segment_rows)
        index = CategoryIndex(settings, observer)
        made.append(index)
        return index

    yield build
    for index in made:
        index.close()


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Watched]:
    """A file of its own."""
    made = Watched(tmp_path / "names.sqlite")
    yield made
    made.real.close()


@pytest.fixture
def log() -> Told:
    """What is told on commit."""
    return Told()


@pytest.fixture
def writer(connection: Watched, log: Told) -> Iterator[Writer]:
    """A writer over it, closed in the end."""
    made = Writer(connection, Wal(connection.real), log)
    yield made
    connection.free.set()
    made.close()
