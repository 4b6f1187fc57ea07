"""A CUDA GPU's memory, against a fake runtime that enforces CUDA's rules; no GPU is needed or used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.inference.cuda import CudaDevice, CudaError, CudaRuntime
from lookalike_server.inference.gpu_errors import GpuFailure, gpu_failure
from lookalike_server.inference.io_binding import BoundSession
from lookalike_server.inference.manifest import read_model_folder
from lookalike_server.inference.onnx_session import OnnxSession
from support.fake_cudart import NO_DEVICE, OUT_OF_MEMORY, FakeRuntime
from support.paths import MODELS
from support.serving import noise

FOLDER = read_model_folder(MODELS / "tiny")


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


def test_images_are_copied_in_and_embeddings_out(fake_cuda: FakeRuntime) -> None:
    """Through page-locked memory and synchronous copies, embeddings are bit for bit those of a plain run."""
    plain = OnnxSession(FOLDER, "cpu", 1)
    session = BoundSession(OnFakeGpu(), CudaDevice(CudaRuntime(str(fake_cuda.path))), FOLDER.model, rows=4)
    images = np.stack([noise(seed) for seed in range(4)])
    for rows in (4, 1, 2, 4):
        assert np.array_equal(session.run(images[:rows]), plain.run(images[:rows]))
    with session.stage(4) as stage:
        stage.images[:3] = images[1:]
        assert np.array_equal(stage.run(3), plain.run(images[1:]))
    assert fake_cuda.unfreed() == 2 * 5  # a stream and four allocations for each of two slots
    session.close()


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaHostAlloc"])
def test_too_little_memory_is_an_error_and_leaves_nothing(fake_cuda: FakeRuntime, call: str) -> None:
    """The error has the call's name and CUDA's words, and what was allocated before is freed."""
    device = CudaDevice(CudaRuntime(str(fake_cuda.path)))
    fake_cuda.fail(call, OUT_OF_MEMORY)
    with pytest.raises(CudaError, match=rf"{call} failed: cudaErrorMemoryAllocation \(out of memory\)"):
        BoundSession(OnFakeGpu(), device, FOLDER.model, rows=4)


@pytest.mark.parametrize(
    ("code", "name", "failure"),
    [
        (OUT_OF_MEMORY, "cudaErrorMemoryAllocation", GpuFailure.OUT_OF_MEMORY),
        (214, "cudaErrorECCUncorrectable", GpuFailure.STICKY),
        (700, "cudaErrorIllegalAddress", GpuFailure.STICKY),
        (719, "cudaErrorLaunchFailure", GpuFailure.STICKY),
        (400, "cudaErrorInvalidResourceHandle", None),
        (701, "cudaErrorLaunchOutOfResources", None),  # of this kernel alone
    ],
)
def test_errors_are_classified_and_cleared(
    fake_cuda: FakeRuntime, code: int, name: str, failure: GpuFailure | None
) -> None:
    """A failed call says what can be done about it, and leaves no error that ONNX Runtime would take for its own."""
    device = CudaDevice(CudaRuntime(str(fake_cuda.path)))
    fake_cuda.fail("cudaMalloc", code)
    with pytest.raises(CudaError, match=name) as caught:
        device.slot(1, (2, 2, 3), 3)
    assert gpu_failure(caught.value) is failure
    assert fake_cuda.last_error() == 0


@pytest.mark.parametrize("call", ["cudaMemcpyAsync", "cudaStreamSynchronize"])
def test_a_copy_that_fails_fails_its_run(fake_cuda: FakeRuntime, call: str) -> None:
    """Every result is checked: a copy that fails raises, and the next run succeeds."""
    session = BoundSession(OnFakeGpu(), CudaDevice(CudaRuntime(str(fake_cuda.path))), FOLDER.model, rows=1)
    image = noise(1)[np.newaxis]
    expected = session.run(image)
    fake_cuda.fail(call, 1)
    with pytest.raises(CudaError, match=f"{call} failed: cudaErrorInvalidValue"):
        session.run(image)
    assert np.array_equal(session.run(image), expected)
    session.close()


def test_a_machine_without_a_gpu_says_so(fake_cuda: FakeRuntime) -> None:
    """With the libraries but without a GPU, the error has CUDA's words."""
    fake_cuda.fail("cudaGetDeviceCount", NO_DEVICE)
    runtime = CudaRuntime(str(fake_cuda.path))
    with pytest.raises(CudaError, match=r"cudaGetDeviceCount failed: cudaErrorNoDevice \(no CUDA-capable device"):
        runtime.device_count()
    assert runtime.device_count() == 1


def test_asking_for_cuda_without_it_is_an_error() -> None:
    """`cuda` by name never falls back to the CPU: the error says what this build lacks or what is missing."""
    with pytest.raises(LookalikeError, match="cannot run the model: cuda: ") as caught:
        OnnxSession(FOLDER, "cuda", 0)
    assert caught.value.code is Code.FAILED_PRECONDITION
