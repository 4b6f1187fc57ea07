"""ONNX Runtime's providers: the options of each, and why one is not available, before a session is created."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lookalike_server.inference.cuda import CudaError, CudaRuntime
from lookalike_server.inference.gpu_problems import LITTLE_MEMORY, NO_DRIVER, explain, gpu_problem
from lookalike_server.inference.manifest import ModelFolder

PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""ONNX Runtime's providers by their names in the settings, in the order in which `auto` tries them."""

ON_GPU = ("tensorrt", "cuda")
"""The providers that run on a CUDA GPU."""

ProviderOptions = list[tuple[str, dict[str, str]]]
"""Providers by ONNX Runtime's names, with their options; each runs what those before it cannot."""

_INSTALL = {"tensorrt": "gpu", "cuda": "gpu", "cpu": "cpu"}
_TENSORRT_LIBRARIES = ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10")


@dataclass(frozen=True, slots=True)
class CudaOptions:
    """How a model runs on a CUDA GPU.

    Attributes:
        graphs: Whether each batch size is recorded as a CUDA graph and replayed.
        conv_algo_search: How cuDNN's convolution kernels are chosen.
        prefer_nhwc: Whether convolutions run with channels last.
        use_tf32: Whether float32 factors may be rounded to TF32.
        max_batch_size: The most images in a batch, for which TensorRT builds its engine.
        engine_dir: The folder for TensorRT's engines, created when missing; without it every start builds them.
    """

    graphs: bool = False
    conv_algo_search: Literal["heuristic", "exhaustive", "default"] = "heuristic"
    prefer_nhwc: bool = False
    use_tf32: bool = True
    max_batch_size: int = 16
    engine_dir: Path | None = None


def unavailable_reason(ort: Any, name: str) -> str | None:
    """Say why a provider is not available: not in this build, no libraries, no GPU that may be used.

    None where nothing is missing.

    Args:
        ort: The module `onnxruntime`.
        name: A key of `PROVIDERS`.
    """
    if PROVIDERS[name] not in ort.get_available_providers():
        # All builds have one import name, so one that is installed beside another overwrites its files.
        install = f"pip uninstall onnxruntime, then pip install 'lookalike-server[{_INSTALL[name]}]'"
        return f"{name}: this build of ONNX Runtime lacks {PROVIDERS[name]} ({install})"
    try:
        if name == "tensorrt":
            _load_tensorrt()
        if name in ON_GPU:
            cuda_runtime(ort)
    except (CudaError, OSError) as error:
        return f"{name}: {explain(str(error))}"
    return None


def failure_reason(ort: Any, text: str) -> str:
    """Say why a model does not start on a GPU, and how much of its memory is free where that is too little.

    Args:
        ort: The module `onnxruntime`.
        text: What ONNX Runtime raised.
    """
    reason = explain(text)
    if gpu_problem(text) is LITTLE_MEMORY:
        with contextlib.suppress(CudaError):
            free, total = (size / 2**30 for size in cuda_runtime(ort).memory())
            return f"{reason}; {free:.1f} of {total:.1f} GiB are free"
    return reason


def cuda_runtime(ort: Any) -> CudaRuntime:
    """Load the CUDA runtime that this build of ONNX Runtime uses, and check that it can use a GPU.

    Raises:
        CudaError: When there is no such library, no driver, no GPU, or none that may be used.
    """
    output = io.StringIO()
    with contextlib.redirect_stdout(output):  # it prints what it could not load
        ort.preload_dlls()
    missing = [line for line in output.getvalue().splitlines() if line.startswith("Failed to load")]
    if missing:
        raise CudaError(f"{missing[0]}: pip install 'lookalike-server[gpu]' installs the libraries of CUDA and cuDNN")
    runtime = CudaRuntime(f"libcudart.so.{ort.cuda_version.partition('.')[0]}")
    try:
        runtime.device_count()
    except CudaError as error:
        driver = runtime.driver_version()
        raise CudaError(f"{error}; the driver is for CUDA {driver}" if driver else NO_DRIVER) from None
    runtime.memory()  # fails where others have the GPU
    return runtime


def provider_options(name: str, folder: ModelFolder, cuda: CudaOptions) -> ProviderOptions:
    """Return the options of a provider, and of the one that runs what it cannot."""
    if name == "cuda":
        return [(PROVIDERS[name], _cuda_options(cuda, graphs=cuda.graphs))]
    if name == "tensorrt":
        return [
            (PROVIDERS[name], _tensorrt_options(folder, cuda)),
            (PROVIDERS["cuda"], _cuda_options(cuda, graphs=False)),
        ]
    return [(PROVIDERS[name], {})]


def _cuda_options(cuda: CudaOptions, *, graphs: bool) -> dict[str, str]:
    return {
        "cudnn_conv_algo_search": cuda.conv_algo_search.upper(),
        "enable_cuda_graph": str(int(graphs)),
        "prefer_nhwc": str(int(cuda.prefer_nhwc)),
        "use_tf32": str(int(cuda.use_tf32)),
    }


def _tensorrt_options(folder: ModelFolder, cuda: CudaOptions) -> dict[str, str]:
    """Build one engine for every batch size, optimized for the largest, and cache it for the next start."""
    model = folder.model

    def shape(rows: int) -> str:
        return f"{folder.input_name}:{rows}x{model.height}x{model.width}x3"

    options = {
        "trt_profile_min_shapes": shape(1),
        "trt_profile_opt_shapes": shape(cuda.max_batch_size),
        "trt_profile_max_shapes": shape(cuda.max_batch_size),
        "trt_fp16_enable": str(int(model.precision == "fp16")),
    }
    if cuda.engine_dir is not None:
        cuda.engine_dir.mkdir(parents=True, exist_ok=True)
        # TensorRT puts the graph and the GPU into the names of its engines.
        options |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cuda.engine_dir)}
    return options


def _load_tensorrt() -> None:
    """Load TensorRT's libraries, so that ONNX Runtime finds them.

    Raises:
        OSError: When they are not installed.
    """
    package = importlib.util.find_spec("tensorrt_libs")  # its wheel installs them where no loader looks
    folder = Path(package.origin).parent if package and package.origin else None
    for name in _TENSORRT_LIBRARIES:
        inside = folder / name if folder else None
        try:
            ctypes.CDLL(str(inside) if inside and inside.exists() else name, mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise OSError(
                f"TensorRT is not installed ({error}); it is optional: pip install 'tensorrt-cu13<11'"
            ) from None
