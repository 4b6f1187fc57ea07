"""A CUDA GPU's memory, against a fake runtime that enforces CUDA's rules; no GPU is needed or used."""

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
from lookalike_server.inference.providers import unavailable_reason
from support.paths import MODELS, ROOT
from support.serving import noise

SOURCE = ROOT / "tests/support/fake_cudart.cpp"
FOLDER = read_model_folder(MODELS / "tiny")
OUT_OF_MEMORY, NO_DEVICE = 2, 100


class FakeRuntime:
    """The compiled fake runtime."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))

    def fail(self, name: str, code: int) -> None:
        """Make the next call of this name fail."""
        self._library.fake_fails(name.encode(), code)

    def unfreed(self) -> int:
        """Count the streams and allocations that were not freed."""
        return int(self._library.fake_open())


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> FakeRuntime:
    """Compile the fake once."""
    compiler = shutil.which("g++")
    assert compiler is not None  # hnswlib is compiled with it too
    path = tmp_path_factory.mktemp("cudart") / "libcudart.so"
    subprocess.run([compiler, "-std=c++17", "-shared", "-fPIC", "-o", path, SOURCE], check=True, timeout=120)
    return FakeRuntime(path)


@pytest.fixture
def fake(compiled: FakeRuntime) -> Iterator[FakeRuntime]:
    """Provide the fake, of which everything must be freed in the end."""
    yield compiled
    assert compiled.unfreed() == 0


class OnFakeGpu:
    """The CPU's session, bound to the fake's device memory, which is host memory."""

    def __init__(self) -> None:
        self._session = OnnxSession(FOLDER, "cpu", 1)
        self.provider = self._session.provider
        self.library = self._session.library
        self.precision = self._session.precision

    def bind(self, kind: str, input_address: int, output_address: int, rows: int, graph: int) -> Any:
        """Bind to these addresses, which must be a GPU's."""
        assert kind == "cuda"
        return self._session.bind("cpu", input_address, output_address, rows, graph)


def test_images_are_copied_in_and_embeddings_out(fake: FakeRuntime) -> None:
    """Through page-locked memory and synchronous copies, embeddings are bit for bit those of a plain run."""
    plain = OnnxSession(FOLDER, "cpu", 1)
    session = BoundSession(OnFakeGpu(), CudaDevice(CudaRuntime(str(fake.path))), FOLDER.model, rows=4)
    images = np.stack([noise(seed) for seed in range(4)])
    for rows in (4, 1, 2, 4):
        assert np.array_equal(session.run(images[:rows]), plain.run(images[:rows]))
    with session.stage(4) as stage:
        stage.images[:3] = images[1:]
        assert np.array_equal(stage.run(3), plain.run(images[1:]))
    assert fake.unfreed() == 2 * 5  # a stream and four allocations for each of two slots
    session.close()


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaHostAlloc"])
def test_too_little_memory_is_an_error_and_leaves_nothing(fake: FakeRuntime, call: str) -> None:
    """The error has the call's name and CUDA's words, and what was allocated before is freed."""
    device = CudaDevice(CudaRuntime(str(fake.path)))
    fake.fail(call, OUT_OF_MEMORY)
    with pytest.raises(CudaError, match=rf"{call} failed: cudaErrorMemoryAllocation \(out of memory\)"):
        BoundSession(OnFakeGpu(), device, FOLDER.model, rows=4)


@pytest.mark.parametrize("call", ["cudaMemcpyAsync", "cudaStreamSynchronize"])
def test_a_copy_that_fails_fails_its_run(fake: FakeRuntime, call: str) -> None:
    """Every result is checked: a copy that fails raises, and the next run succeeds."""
    session = BoundSession(OnFakeGpu(), CudaDevice(CudaRuntime(str(fake.path))), FOLDER.model, rows=1)
    image = noise(1)[np.newaxis]
    expected = session.run(image)
    fake.fail(call, 1)
    with pytest.raises(CudaError, match=f"{call} failed: cudaErrorInvalidValue"):
        session.run(image)
    assert np.array_equal(session.run(image), expected)
    session.close()


def build(fake: FakeRuntime, *, output: str = "") -> Any:
    """Fake ONNX Runtime's GPU build, whose `preload_dlls` prints this output."""
    return SimpleNamespace(
        get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        preload_dlls=lambda: print(output),
        cuda_version="13.0",
    )


def test_a_machine_without_cuda_says_what_is_missing(fake: FakeRuntime, capsys: pytest.CaptureFixture[str]) -> None:
    """The reason has the missing library and what to install; ONNX Runtime's own output is not printed."""
    ort = build(fake, output="Failed to load libcublas.so.13: no such file\nPlease follow a page")
    assert unavailable_reason(ort, "cuda") == (
        "cuda: Failed to load libcublas.so.13: no such file:"
        " pip install 'lookalike-server[gpu]' installs the libraries of CUDA and cuDNN"
    )
    assert capsys.readouterr().out == ""


def test_a_machine_without_the_runtime_says_so(fake: FakeRuntime) -> None:
    """Where the loader finds no CUDA runtime of this version, the reason has the loader's words."""
    reason = unavailable_reason(build(fake), "cuda")
    if reason is None:
        pytest.skip("this machine has CUDA 13 and a GPU")
    assert reason.startswith(("cuda: the CUDA runtime cannot be loaded: libcudart.so.13", "cuda: cudaGetDeviceCount"))


def test_a_machine_without_a_gpu_says_so(fake: FakeRuntime) -> None:
    """With the libraries but without a GPU, the error has CUDA's words."""
    fake.fail("cudaGetDeviceCount", NO_DEVICE)
    runtime = CudaRuntime(str(fake.path))
    with pytest.raises(CudaError, match=r"cudaGetDeviceCount failed: cudaErrorNoDevice \(no CUDA-capable device"):
        runtime.device_count()
    assert runtime.device_count() == 1


def test_asking_for_cuda_without_it_is_an_error() -> None:
    """`cuda` by name never falls back to the CPU: the error says what this build lacks or what is missing."""
    with pytest.raises(LookalikeError, match="cannot run the model: cuda: ") as caught:
        OnnxSession(FOLDER, "cuda", 0)
    assert caught.value.code is Code.FAILED_PRECONDITION
