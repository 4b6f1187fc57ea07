"""Fixtures for the tests of the index, of the store's writer and of a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lookalike_server.domain.inference import Metric
from lookalike_server.index.category_index import CategoryIndex
from lookalike_server.index.graph import HnswSettings
from lookalike_server.index.segment import PartitionSettings
from lookalike_server.store.wal import Wal
from lookalike_server.store.writer import Writer
from support.fake_cudart import FakeRuntime, compile_runtime
from support.fakes import RecordingObserver
from support.index_model import DIM, MakeIndex
from support.writer_fakes import FaultyConnection, RecordingIndex


@pytest.fixture
def observer() -> RecordingObserver:
    """Return an observer that records the events of a test's indexes."""
    return RecordingObserver()


@pytest.fixture
def make_index(observer: RecordingObserver) -> Iterator[MakeIndex]:
    """Return a function that makes indexes, which are closed after the test."""
    made = []

    def build(
        full_scan_threshold: int,
        metric: Metric = Metric.COSINE,
        dim: int = DIM,
        hnsw: HnswSettings | None = None,
        max_segment_rows: int = 16_384,
        max_shard_rows: int = 65_536,
    ) -> CategoryIndex:
        settings = PartitionSettings(
            dim,
            metric,
            full_scan_threshold,
            hnsw or HnswSettings(),
            max_segment_rows=max_segment_rows,
            max_shard_rows=max_shard_rows,
        )
        index = CategoryIndex(settings, observer)
        made.append(index)
        return index

    yield build
    for index in made:
        index.close()


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[FaultyConnection]:
    """Return a connection to a new file."""
    made = FaultyConnection(tmp_path / "names.sqlite")
    yield made
    made.real.close()


@pytest.fixture
def recording_index() -> RecordingIndex:
    """Return what the writer calls on every commit."""
    return RecordingIndex()


@pytest.fixture
def writer(connection: FaultyConnection, recording_index: RecordingIndex) -> Iterator[Writer]:
    """Return a writer over the connection, which is closed after the test."""
    made = Writer(connection, Wal(connection.real), recording_index)
    yield made
    connection.free.set()
    made.close()


@pytest.fixture(scope="session")
def compiled_runtime(tmp_path_factory: pytest.TempPathFactory) -> FakeRuntime:
    """Compile the fake CUDA runtime once."""
    return compile_runtime(tmp_path_factory.mktemp("cudart"))


@pytest.fixture
def fake_cuda(compiled_runtime: FakeRuntime) -> Iterator[FakeRuntime]:
    """Provide the fake CUDA runtime with a free GPU, of which everything must be freed in the end."""
    compiled_runtime.set_gpu()
    yield compiled_runtime
    assert compiled_runtime.unfreed() == 0
