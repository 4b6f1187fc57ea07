"""The CUDA card's memory, against a runtime of our own that keeps CUDA's rules; no card is needed, nor used."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.inference.cuda import CudaDevice, CudaError, CudaRuntime
from lookalike_server.inference.io_binding import BoundSession
from lookalike_server.inference.manifest import read_model_folder
from lookalike_server.inference.onnx_session import OnnxSession
from lookalike_server.inference.providers import why_not
from support.paths import MODELS, ROOT
from support.serving import noise

SOURCE = ROOT / "tests/support/fake_cudart.cpp"
FOLDER = read_model_folder(MODELS / "tiny")
OUT_OF_MEMORY, NO_DEVICE = 2, 100


class FakeRuntime:
    """The compiled fake: its path, and what it can be told and asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))

    def fail(self, name: str, code: int) -> None:
        """Have the next call of this name fail."""
        self._library.fake_fails(name.encode(), code)

    def open(self) -> int:
        """Streams and pieces of memory that were not given back."""
        return int(self._library.fake_open())


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> FakeRuntime:
    """The fake, compiled once."""
    compiler = shutil.which("g++")
    assert compiler is not None  # hnswlib is compiled with it too
    path = tmp_path_factory.mktemp("cudart") / "libcudart.so"
    subprocess.run([compiler, "-std=c++17", "-shared", "-fPIC", "-o", path, SOURCE], check=True, timeout=120)
    return FakeRuntime(path)


@pytest.fixture
def fake(compiled: FakeRuntime) -> Iterator[FakeRuntime]:
    """The fake, of which everything must be given back in the end."""
    yield compiled
    assert compiled.open() == 0


class OnFakeCard:
    """The CPU's session, bound to what the card's memory is in the fake: plain memory."""

    def __init__(self) -> None:
        self._session = OnnxSession(FOLDER, "cpu", 1)
        self.provider = self._session.provider

    def bind(self, kind: str, input_address: int, output_address: int, rows: int, graph: int) -> Any:
        """Bind where it is told, which must be a card."""
        assert kind == "cuda"
        return self._session.bind("cpu", input_address, output_address, rows, graph)


def test_images_go_to_the_card_and_embeddings_come_back(fake: FakeRuntime) -> None:
    """Through page-locked memory, by copies that are waited for, the answers are those of a plain run, bit for bit."""
    plain = OnnxSession(FOLDER, "cpu", 1)
    session = BoundSession(OnFakeCard(), CudaDevice(CudaRuntime(str(fake.path))), FOLDER.model, rows=4)
    images = np.stack([noise(seed) for seed in range(4)])
    for rows in (4, 1, 2, 4):
        assert np.array_equal(session.run(images[:rows]), plain.run(images[:rows]))
    with session.stage(4) as stage:
        stage.images[:3] = images[1:]
        assert np.array_equal(stage.run(3), plain.run(images[1:]))
    assert fake.open() == 2 * 5  # a stream and four pieces of memory for each of two batches
    session.close()


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaHostAlloc"])
def test_too_little_memory_is_told_and_leaves_nothing(fake: FakeRuntime, call: str) -> None:
    """The error names the call and what CUDA says, and what was taken before it is given back."""
    device = CudaDevice(CudaRuntime(str(fake.path)))
    fake.fail(call, OUT_OF_MEMORY)
    with pytest.raises(CudaError, match=rf"{call} failed: cudaErrorMemoryAllocation \(out of memory\)"):
        BoundSession(OnFakeCard(), device, FOLDER.model, rows=4)


@pytest.mark.parametrize("call", ["cudaMemcpyAsync", "cudaStreamSynchronize"])
def test_a_copy_that_fails_fails_its_run(fake: FakeRuntime, call: str) -> None:
    """No result is passed over: a copy that fails raises, and the next run is served."""
    session = BoundSession(OnFakeCard(), CudaDevice(CudaRuntime(str(fake.path))), FOLDER.model, rows=1)
    image = noise(1)[np.newaxis]
    right = session.run(image)
    fake.fail(call, 1)
    with pytest.raises(CudaError, match=f"{call} failed: cudaErrorInvalidValue"):
        session.run(image)
    assert np.array_equal(session.run(image), right)
    session.close()


def build(fake: FakeRuntime, *, told: str = "") -> Any:
    """What stands for ONNX Runtime's GPU build, whose `preload_dlls` prints this, and whose runtime is the fake."""
    return SimpleNamespace(
        get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        preload_dlls=lambda: print(told),
        cuda_version="13.0",
    )


def test_a_machine_without_cuda_says_what_is_missing(fake: FakeRuntime, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing libraries are named with what to install, and ONNX Runtime's own lines do not reach the output."""
    ort = build(fake, told="Failed to load libcublas.so.13: no such file\nPlease follow a page")
    assert why_not(ort, "cuda") == (
        "cuda: Failed to load libcublas.so.13: no such file:"
        " pip install 'lookalike-server[gpu]' brings the libraries of CUDA and cuDNN"
    )
    assert capsys.readouterr().out == ""


def test_a_machine_without_the_runtime_says_so(fake: FakeRuntime) -> None:
    """Where the loader finds no CUDA runtime of this version, its own words are told."""
    reason = why_not(build(fake), "cuda")
    if reason is None:
        pytest.skip("this machine has CUDA 13 and a card")
    assert reason.startswith(("cuda: the CUDA runtime cannot be loaded: libcudart.so.13", "cuda: cudaGetDeviceCount"))


def test_a_machine_without_a_card_says_so(fake: FakeRuntime) -> None:
    """With the libraries but no card, CUDA's own words are told."""
    fake.fail("cudaGetDeviceCount", NO_DEVICE)
    runtime = CudaRuntime(str(fake.path))
    with pytest.raises(CudaError, match=r"cudaGetDeviceCount failed: cudaErrorNoDevice \(no CUDA-capable device"):
        runtime.devices()
    assert runtime.devices() == 1


def test_asking_for_cuda_without_it_is_an_error() -> None:
    """`cuda` by name is never run on the processor instead: the error says what this build lacks or what is missing."""
    with pytest.raises(LookalikeError, match="cannot run the model: cuda: ") as caught:
        OnnxSession(FOLDER, "cuda", 0)
    assert caught.value.code is Code.FAILED_PRECONDITION
