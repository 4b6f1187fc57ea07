"""The contract of `Session`, on every implementation: shapes, batch sizes, concurrent runs, errors, close."""

from __future__ import annotations

import gc
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lookalike_server.domain.inference import Floats, Pixels
from lookalike_server.domain.protocols import Session
from lookalike_server.inference.device import HostDevice
from lookalike_server.inference.io_binding import BoundSession
from lookalike_server.inference.manifest import ModelFolder, read_model_folder
from lookalike_server.inference.onnx_session import OnnxSession
from lookalike_server.inference.openvino_session import OpenVinoModel
from support.odd_models import fails_on_white
from support.paths import MODELS
from support.serving import SIDE, noise

MAX_BATCH_SIZE = 5
STREAMS = 2
TINY = read_model_folder(MODELS / "tiny")


def load_onnx_runtime(folder: ModelFolder) -> Session:
    """Load it into ONNX Runtime, on the CPU."""
    return OnnxSession(folder, "cpu", 1)


def load_openvino(folder: ModelFolder) -> Session:
    """Load it into OpenVINO, which is exact in fp32."""
    model = OpenVinoModel(folder, "fp32")
    session = model.session(STREAMS, STREAMS, MAX_BATCH_SIZE)
    model.close()
    return session


def load_bound(folder: ModelFolder) -> Session:
    """Load it into ONNX Runtime and bind it to a device's memory."""
    return BoundSession(OnnxSession(folder, "cpu", 1), HostDevice(), folder.model, rows=MAX_BATCH_SIZE)


Load = Callable[[ModelFolder], Session]
EVERY = pytest.mark.parametrize("load", [load_onnx_runtime, load_openvino, load_bound])
ASYNCHRONOUS = pytest.mark.parametrize("load", [load_openvino])


def images_of(count: int, first: int = 0) -> Pixels:
    """Return so many different images: uint8 [count, 32, 32, 3]."""
    return np.stack([noise(first + seed) for seed in range(count)])


def tile_means(images: Pixels) -> Floats:
    """Embed as the tiny model does: the mean color of each tile, centered, of length 1."""
    tiles = images.reshape(len(images), 4, SIDE // 4, 4, SIDE // 4, 3).mean(axis=(2, 4)) - 127.5
    features = tiles.transpose(0, 3, 1, 2).reshape(len(images), -1)
    vectors: Floats = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    return vectors


def count_threads() -> int:
    """Count the threads of this process, those of libraries too."""
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.fixture
def session(load: Load) -> Iterator[Session]:
    """The tiny model in a session, which is closed after the test."""
    loaded = load(TINY)
    yield loaded
    loaded.close()


def started(session: Session, images: list[Pixels]) -> Floats | Exception:
    """Start a run and wait for its outcome."""
    outcomes: queue.SimpleQueue[Floats | Exception] = queue.SimpleQueue()
    session.start(images, outcomes.put)
    return outcomes.get(timeout=30)


@EVERY
@pytest.mark.parametrize("size", range(1, MAX_BATCH_SIZE + 1))
def test_every_batch_size_is_embedded(session: Session, size: int) -> None:
    """A batch of any size up to the largest gives float32 [size, dim], each row its own image's embedding."""
    images = images_of(size)
    found = session.run(images)
    assert found.shape == (size, 48)
    assert found.dtype == np.float32
    assert np.allclose(found, tile_means(images), atol=1e-5)


@EVERY
def test_a_result_is_the_callers_own(session: Session) -> None:
    """A later run does not change an earlier result."""
    first = session.run(images_of(2))
    kept = first.copy()
    for seed in range(8):
        session.run(images_of(2, first=10 + seed))
    assert np.array_equal(first, kept)


@EVERY
def test_concurrent_runs_do_not_mix(session: Session) -> None:
    """Several threads run it at once, with batches of several sizes, and each gets its own images' embeddings."""

    def run(number: int) -> bool:
        images = images_of(1 + number % MAX_BATCH_SIZE, first=100 * number)
        return np.allclose(session.run(images), tile_means(images), atol=1e-5)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(run, range(60)))


# Not bound to memory: that runs rows which hold earlier images, and this model looks at all rows.
@pytest.mark.parametrize("load", [load_onnx_runtime, load_openvino])
def test_a_failing_run_fails_alone(load: Load, tmp_path: Path) -> None:
    """A run that the library rejects raises; the runs after it succeed."""
    session = load(fails_on_white(tmp_path / "odd"))
    gray = np.full((2, SIDE, SIDE, 3), 7, dtype=np.uint8)
    for _ in range(2 * STREAMS + 2):  # more often than there are requests, so that none is lost
        with pytest.raises(Exception, match=r"(?i)reshape"):
            session.run(np.full((1, SIDE, SIDE, 3), 255, dtype=np.uint8))
        assert np.allclose(session.run(gray), 7)
    session.close()


@EVERY
def test_it_says_what_runs_it(session: Session) -> None:
    """Provider, library with version, and precision are known."""
    assert session.provider in ("CPUExecutionProvider", "OpenVINO")
    assert session.library.startswith(("ONNX Runtime 1.", "OpenVINO 2"))
    assert session.precision == "fp32"


@EVERY
def test_closing_ends_the_librarys_threads(load: Load) -> None:
    """After close no thread is left that the session started, so that another runtime has the cores to itself."""
    load(TINY).close()  # what the library starts once per process
    gc.collect()
    before = count_threads()
    session = load(TINY)
    session.run(images_of(2))
    session.close()
    session.close()  # a second time does nothing
    del session
    gc.collect()
    assert count_threads() <= before


@ASYNCHRONOUS
def test_a_started_run_calls_back(session: Session) -> None:
    """The embeddings of the images come to the callback, in another thread, while the caller goes on."""
    images = images_of(3)
    found = started(session, list(images))
    assert isinstance(found, np.ndarray)
    assert np.allclose(found, tile_means(images), atol=1e-5)


@ASYNCHRONOUS
def test_a_started_run_that_fails_calls_back(load: Load, tmp_path: Path) -> None:
    """OpenVINO calls nothing where a run fails, so that it is found otherwise; the next run succeeds."""
    session = load(fails_on_white(tmp_path / "odd"))
    for _ in range(STREAMS + 1):
        failed = started(session, [np.full((SIDE, SIDE, 3), 255, dtype=np.uint8)])
        assert isinstance(failed, Exception)
        assert "reshape" in str(failed).lower()
        found = started(session, [np.full((SIDE, SIDE, 3), 7, dtype=np.uint8)])
        assert isinstance(found, np.ndarray)
        assert np.allclose(found, 7)
    session.close()


@ASYNCHRONOUS
def test_no_run_is_started_that_would_wait(session: Session) -> None:
    """Beyond the session's requests `start` raises at once, rather than block the event loop; all runs come back."""
    outcomes: queue.SimpleQueue[Floats | Exception] = queue.SimpleQueue()
    reported = threading.Event()
    started_runs = 0

    def done(result: Floats | Exception) -> None:
        reported.wait(30)  # meanwhile OpenVINO reports no other run, so that no further request becomes idle
        outcomes.put(result)

    def start_too_many() -> None:
        nonlocal started_runs
        for _ in range(10 * (STREAMS + 1)):
            session.start([noise(0)], done)
            started_runs += 1

    with pytest.raises(RuntimeError, match="every request"):
        start_too_many()
    reported.set()
    results = [outcomes.get(timeout=30) for _ in range(started_runs)]
    assert all(isinstance(result, np.ndarray) for result in results)


@ASYNCHRONOUS
@pytest.mark.parametrize("count", [0, MAX_BATCH_SIZE + 1])
def test_a_batch_it_has_no_memory_for(session: Session, count: int) -> None:
    """An empty batch, or one above the largest, is an error, and takes no request with it."""
    for _ in range(STREAMS + 2):
        with pytest.raises(ValueError, match=f"cannot run {count} images at once"):
            session.start([noise(0)] * count, lambda _: None)
    assert len(session.run(images_of(1))) == 1


@ASYNCHRONOUS
def test_closing_beside_runs(load: Load) -> None:
    """A session is closed while callbacks come: it waits for them, and they for nothing."""

    def run_forever(session: Session) -> None:
        while True:
            session.run(images_of(1))

    for _ in range(30):
        session = load(TINY)
        with ThreadPoolExecutor(2) as threads:
            running = [threads.submit(run_forever, session) for _ in range(2)]
            session.close()
            for each in running:
                with pytest.raises(RuntimeError, match="closed"):
                    each.result(timeout=30)


@ASYNCHRONOUS
def test_a_closed_session_runs_nothing(session: Session) -> None:
    """After close both ways to run raise."""
    session.close()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="closed"):
            session.start([noise(0)], lambda _: None)
        with pytest.raises(RuntimeError, match="closed"):
            session.run(images_of(1))


@pytest.mark.parametrize("load", [load_onnx_runtime, load_bound])
def test_a_session_that_only_blocks_says_so(session: Session) -> None:
    """Where runs block there is no `start`."""
    assert not session.asynchronous
    with pytest.raises(RuntimeError, match="starts no run"):
        session.start([noise(0)], lambda _: None)
