"""Indexes for the tests of the embedded index, and writers for those of the store's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from brute_force import DIM, MakeIndex
from fakes import RecordingObserver
from lookalike_server.domain import Metric
from lookalike_server.index.hnsw import HnswSettings
from lookalike_server.index.partitioned import PartitionedIndex
from lookalike_server.index.segment import PartitionSettings
from lookalike_server.store.wal import Log
from lookalike_server.store.writer import Writer
from written import Told, Watched


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
    made = Writer(connection, Log(connection.real), log)
    yield made
    connection.free.set()
    made.close()
