"""A GPU that cannot run the model: what a start by name, `auto` and the doctor say; no GPU is needed or used."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import structlog

from lookalike_server.config import Settings
from lookalike_server.doctor.finding import Status
from lookalike_server.doctor.model import check_model_run, check_provider
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.engine.model_loading import load_model
from lookalike_server.engine.runtime_choice import plan_model
from lookalike_server.inference.gpu_problems import explain, gpu_problem
from lookalike_server.inference.manifest import read_model_folder
from lookalike_server.inference.onnx_session import OnnxSession
from lookalike_server.inference.providers import unavailable_reason
from support.fake_cudart import (
    DEVICES_UNAVAILABLE,
    DRIVER_MISMATCH,
    GIB,
    INSUFFICIENT_DRIVER,
    NO_DEVICE,
    OUT_OF_MEMORY,
    SYSTEM_NOT_READY,
    FakeRuntime,
    GpuBuild,
)
from support.paths import MODELS

FOLDER = read_model_folder(MODELS / "tiny")
CALL = "/onnxruntime_src/core/providers/cuda/cuda_call.cc:129 onnxruntime::CudaCall(ERRTYPE, const char*) "
WHERE = " ; GPU=0 ; hostname=shop ; file=/onnxruntime_src/core/a.cc ; line=1 ; expr=cudaMalloc(&p, size); "
NODE = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Conv node. Name:'c' Status Message: "
)
NO_KERNEL = f"{NODE}CUDA error cudaErrorNoKernelImageForDevice:no kernel image is available for execution on the device"
NO_MEMORY = f"{CALL}CUDA failure 2: out of memory{WHERE}"
NO_ROOM = (
    f"{NODE}bfc_arena.cc:359 AllocateRawInternal Failed to allocate memory for requested buffer of size 4294967296\n"
)

CALLS = [
    ("cudaGetDeviceCount", INSUFFICIENT_DRIVER, 0, "there is no driver of NVIDIA's: install it; in a container"),
    ("cudaGetDeviceCount", INSUFFICIENT_DRIVER, 12_080, "driver is too old for this build of ONNX Runtime: install"),
    ("cudaGetDeviceCount", NO_DEVICE, 13_000, "the driver has no GPU that this process can see: look at CUDA_VISIBLE_"),
    ("cudaGetDeviceCount", SYSTEM_NOT_READY, 13_000, "start nvidia-fabricmanager"),
    ("cudaGetDeviceCount", DRIVER_MISMATCH, 13_000, "have different versions: restart the machine"),
    ("cudaMemGetInfo", DEVICES_UNAVAILABLE, 13_000, "another process has the GPU to itself, or its compute mode"),
    ("cudaMemGetInfo", OUT_OF_MEMORY, 13_000, "too little free memory for the model: end other processes"),
]
"""A call that fails, its error, the driver's version, and what is said."""

LOADS = [
    (
        {"fails_to_load": NO_MEMORY},
        "too little free memory for the model",
        "(CUDA failure 2: out of memory); 0.5 of 80.0",
    ),
    (
        {"fails_to_run": NO_ROOM},
        "too little free memory",
        "requested buffer of size 4294967296); 0.5 of 80.0 GiB are free",
    ),
    (
        {"fails_to_run": NO_KERNEL},
        "no code for the architecture of this GPU: use a GPU that it supports",
        "kernel image",
    ),
]
"""How ONNX Runtime fails to start on the GPU, and what is said."""


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that puts a build of ONNX Runtime in the place of the installed one."""
    return lambda build: monkeypatch.setitem(sys.modules, "onnxruntime", build)


def settings(tmp_path: Path, provider: str, **changes: Any) -> Settings:
    """Return settings for the tiny model."""
    chosen: dict[str, Any] = {"model": MODELS / "tiny", "data_dir": tmp_path, "provider": provider, "max_batch_size": 1}
    return Settings(**chosen | changes)


@pytest.mark.parametrize(("call", "code", "driver", "says"), CALLS)
def test_a_gpu_that_cannot_be_used(
    fake_cuda: FakeRuntime, install: Any, call: str, code: int, driver: int, says: str
) -> None:
    """By name it is an error with what is wrong and what to do, in the doctor too; nothing is loaded."""
    build = GpuBuild()
    install(build)
    fake_cuda.set_gpu(driver)
    fake_cuda.fail(call, code)
    with pytest.raises(LookalikeError) as caught:
        OnnxSession(FOLDER, "cuda", 1)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert caught.value.message.startswith("cannot run the model: cuda: ")
    assert says in caught.value.message
    assert build.loads == []
    fake_cuda.fail(call, code)
    finding, provider = check_provider("cuda", None)
    assert (finding.status, provider) == (Status.ERROR, None)
    assert says in finding.message


def test_a_driver_says_its_version(fake_cuda: FakeRuntime) -> None:
    """Of a driver that is too old, the reason has the version of CUDA that it is for."""
    fake_cuda.set_gpu(12_080)
    fake_cuda.fail("cudaGetDeviceCount", INSUFFICIENT_DRIVER)
    reason = unavailable_reason(GpuBuild(), "cuda")
    assert reason is not None
    assert "the driver is for CUDA 12.8)" in reason


@pytest.mark.parametrize(("call", "code", "driver", "says"), CALLS)
def test_the_doctor_says_what_auto_skips(
    fake_cuda: FakeRuntime, install: Any, call: str, code: int, driver: int, says: str
) -> None:
    """`auto` runs on the CPU; that is worth a warning where there is a GPU, and fine where there is none."""
    install(GpuBuild())
    fake_cuda.set_gpu(driver)
    fake_cuda.fail(call, code)
    finding, provider = check_provider("auto", None)
    assert provider == "cpu"
    has_gpu = code not in (NO_DEVICE, INSUFFICIENT_DRIVER) or driver == 12_080
    assert finding.status is (Status.WARNING if has_gpu else Status.OK)
    assert (says in finding.message) == has_gpu


@pytest.mark.parametrize(("failure", "says", "words"), LOADS)
def test_a_model_that_does_not_start_by_name(
    fake_cuda: FakeRuntime, install: Any, tmp_path: Path, failure: dict[str, str], says: str, words: str
) -> None:
    """By name it is an error of the start, and of the doctor's run: what is wrong, what to do, ONNX Runtime's words."""
    build = GpuBuild(**failure)
    install(build)
    fake_cuda.set_gpu(free=GIB // 2)
    with pytest.raises(LookalikeError, match="cannot run the model: cuda: ") as caught:
        load_model(FOLDER, settings(tmp_path, "cuda"))
    assert says in caught.value.message
    assert words in caught.value.message
    assert "hostname" not in caught.value.message
    assert build.loads == ["CUDAExecutionProvider"]
    assert check_provider("cuda", None)[1] == "cuda"  # nothing shows before the model is loaded
    finding = check_model_run(FOLDER, "cuda", settings(tmp_path, "cuda"))
    assert (finding.status, says in finding.message) == (Status.ERROR, True)
    finding = check_model_run(FOLDER, "cuda", settings(tmp_path, "auto"))
    assert (finding.status, says in finding.message) == (Status.WARNING, True)
    assert "--provider auto runs the model on the CPU" in finding.remedy


@pytest.mark.parametrize(("failure", "says", "words"), LOADS)
def test_auto_runs_on_the_cpu_instead(
    fake_cuda: FakeRuntime, install: Any, tmp_path: Path, failure: dict[str, str], says: str, words: str
) -> None:
    """`auto` skips a GPU that fails, with a warning, and tries it once however many sessions it loads."""
    build = GpuBuild(**failure)
    install(build)
    fake_cuda.set_gpu(free=GIB // 2)
    with structlog.testing.capture_logs() as log:
        planned = plan_model(FOLDER, settings(tmp_path, "auto", intra_op_threads=2, autotune_cache=False))
    planned.plan.close()
    assert planned.runtime.provider in ("CPUExecutionProvider", "OpenVINO")
    (reason,) = [each for each in planned.runtime.skipped if each.startswith("cuda: ")]
    assert says in reason
    assert words in reason
    assert [each["reason"] for each in log if each["event"] == "gpu_unusable"] == [reason]
    assert build.loads.count("CUDAExecutionProvider") == 1


def test_a_gpu_that_works_is_taken(fake_cuda: FakeRuntime, install: Any) -> None:
    """With nothing wrong `auto` runs the model on the GPU, and the doctor says so."""
    build = GpuBuild()
    install(build)
    session = OnnxSession(FOLDER, "auto", 1)
    assert session.provider == "CUDAExecutionProvider"
    assert [reason.partition(":")[0] for reason in session.skipped] == ["tensorrt"]
    finding, provider = check_provider("auto", None)
    assert (finding.status, provider) == (Status.OK, "cuda")


def test_a_failure_that_is_not_the_gpus(fake_cuda: FakeRuntime, install: Any) -> None:
    """A model that would fail on every provider is an error of its own, also by `auto`."""
    build = GpuBuild(fails_to_run=f"{NODE}the shapes do not match")
    install(build)
    with pytest.raises(LookalikeError, match=r"a run of .*model\.onnx fails: .*the shapes do not match"):
        OnnxSession(FOLDER, "auto", 1)
    assert build.loads == ["CUDAExecutionProvider"]


def test_a_machine_without_cuda_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """The reason has the missing library and what to install; ONNX Runtime's own output is not printed."""
    build = GpuBuild(missing="Failed to load libcublas.so.13: no such file\nPlease follow a page")
    assert unavailable_reason(build, "cuda") == (
        "cuda: Failed to load libcublas.so.13: no such file:"
        " pip install 'lookalike-server[gpu]' installs the libraries of CUDA and cuDNN"
    )
    assert capsys.readouterr().out == ""


def test_a_machine_without_the_runtime_says_so() -> None:
    """Where the loader finds no CUDA runtime of this version, the reason has the loader's words."""
    build = GpuBuild()
    build.cuda_version = "98.0"
    reason = unavailable_reason(build, "cuda")
    assert reason is not None
    assert reason.startswith("cuda: the CUDA runtime cannot be loaded: libcudart.so.98: ")


@pytest.mark.parametrize(
    "text",
    [
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=shop",
        "CUDNN failure 3: CUDNN_STATUS_ALLOC_FAILED ; GPU=0",
        "CUBLAS failure 8: CUBLAS_STATUS_ARCH_MISMATCH ; GPU=0",
        f"{CALL}CUDA failure 46: CUDA-capable device(s) is/are busy or unavailable{WHERE}",
    ],
)
def test_errors_of_libraries(text: str) -> None:
    """What cuBLAS and cuDNN say is recognized too; paths of sources and the host are left out."""
    assert gpu_problem(text)
    words = explain(text)
    assert "hostname" not in words
    assert "onnxruntime_src" not in words


@pytest.mark.parametrize(
    "text", ["", "the shapes do not match", "CUDA failure 20: something", "CUDA failure 700: illegal"]
)
def test_other_errors_stay_as_they_are(text: str) -> None:
    """A text that says nothing of these problems is not changed; 20 is not 2."""
    assert gpu_problem(text) is None
    assert explain(text) == text
