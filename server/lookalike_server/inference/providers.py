"""ONNX Runtime's providers: what each is told, and why one cannot be had, before a session is tried with it."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lookalike_server.inference.cuda import CudaError, CudaRuntime
from lookalike_server.inference.manifest import ModelFolder

PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""Settings' names for ONNX Runtime's providers, in the order in which `auto` tries them."""

ON_CARD = ("tensorrt", "cuda")
"""Those that run on a CUDA card."""

Options = list[tuple[str, dict[str, str]]]
"""Providers by ONNX Runtime's names, the first for whatever it can run, each with what it is told."""

_INSTALL = {"tensorrt": "gpu", "cuda": "gpu", "openvino": "openvino", "cpu": "cpu"}
_OPENVINO_PRECISIONS = {"bf16": "bf16", "fp32": "f32"}
_TENSORRT_LIBRARIES = ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10")


@dataclass(frozen=True, slots=True)
class Card:
    """How a model is run on a CUDA card.

    Attributes:
        graphs: Whether each batch size's work is recorded once and replayed as a whole.
        search: How cuDNN's kernels are chosen.
        nhwc: Whether convolutions run with channels last.
        tf32: Whether float32 products may be rounded to TF32 on the way in.
        rows: The most images in a run, for which TensorRT builds its engine.
        engines: The folder where TensorRT keeps its engines, made when missing; without it every start builds them.
    """

    graphs: bool = False
    search: Literal["heuristic", "exhaustive", "default"] = "heuristic"
    nhwc: bool = False
    tf32: bool = True
    rows: int = 16
    engines: Path | None = None


def why_not(ort: Any, name: str) -> str | None:
    """Why a provider cannot be had: not in this build, no libraries, no card; None where nothing speaks against it.

    Args:
        ort: The module `onnxruntime`.
        name: A key of `PROVIDERS`.
    """
    if PROVIDERS[name] not in ort.get_available_providers():
        # The builds have one import name: installed side by side, one's files are the other's.
        install = f"pip uninstall onnxruntime, then pip install 'lookalike-server[{_INSTALL[name]}]'"
        return f"{name}: this build of ONNX Runtime lacks {PROVIDERS[name]} ({install})"
    try:
        if name == "tensorrt":
            _load_tensorrt()
        if name in ON_CARD:
            cuda_runtime(ort)
    except (CudaError, OSError) as error:
        return f"{name}: {error}"
    return None


def cuda_runtime(ort: Any) -> CudaRuntime:
    """The CUDA runtime that this build of ONNX Runtime uses, with a card behind it.

    Raises:
        CudaError: When there is no such library, no driver or no card.
    """
    told = io.StringIO()
    with contextlib.redirect_stdout(told):  # it prints what it could not load
        ort.preload_dlls()
    missing = [line for line in told.getvalue().splitlines() if line.startswith("Failed to load")]
    if missing:
        raise CudaError(f"{missing[0]}: pip install 'lookalike-server[gpu]' brings the libraries of CUDA and cuDNN")
    runtime = CudaRuntime(f"libcudart.so.{ort.cuda_version.partition('.')[0]}")
    try:
        runtime.devices()
    except CudaError as error:
        raise CudaError(f"{error}; this process must see NVIDIA's driver and a card") from None
    return runtime


def options_of(name: str, folder: ModelFolder, threads: int, inference_precision: str, card: Card) -> Options:
    """What a provider is told, and the one that runs what it cannot."""
    if name == "openvino":
        return [(PROVIDERS[name], _openvino_options(inference_precision, threads))]
    if name == "cuda":
        return [(PROVIDERS[name], _cuda_options(card, graphs=card.graphs))]
    if name == "tensorrt":
        return [
            (PROVIDERS[name], _tensorrt_options(folder, card)),
            (PROVIDERS["cuda"], _cuda_options(card, graphs=False)),
        ]
    return [(PROVIDERS[name], {})]


def _openvino_options(precision: str, threads: int) -> dict[str, str]:
    """What OpenVINO is told: to run on the processor, in one stream, and in which precision."""
    settings = {"INFERENCE_PRECISION_HINT": _OPENVINO_PRECISIONS[precision], "NUM_STREAMS": "1"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    return {"device_type": "CPU", "load_config": json.dumps({"CPU": settings})}


def _cuda_options(card: Card, *, graphs: bool) -> dict[str, str]:
    return {
        "cudnn_conv_algo_search": card.search.upper(),
        "enable_cuda_graph": str(int(graphs)),
        "prefer_nhwc": str(int(card.nhwc)),
        "use_tf32": str(int(card.tf32)),
    }


def _tensorrt_options(folder: ModelFolder, card: Card) -> dict[str, str]:
    """One engine for every batch size up to the largest, best at that one, and kept for the next start."""
    model = folder.model

    def shape(rows: int) -> str:
        return f"{folder.input_name}:{rows}x{model.height}x{model.width}x3"

    options = {
        "trt_profile_min_shapes": shape(1),
        "trt_profile_opt_shapes": shape(card.rows),
        "trt_profile_max_shapes": shape(card.rows),
        "trt_fp16_enable": str(int(model.precision == "fp16")),
    }
    if card.engines is not None:
        card.engines.mkdir(parents=True, exist_ok=True)
        # Their names tell the graph and the card that they are for.
        options |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(card.engines)}
    return options


def _load_tensorrt() -> None:
    """Load TensorRT's libraries, so that ONNX Runtime finds them.

    Raises:
        OSError: When they are not installed.
    """
    package = importlib.util.find_spec("tensorrt_libs")  # its wheel has them where no loader looks
    folder = Path(package.origin).parent if package and package.origin else None
    for name in _TENSORRT_LIBRARIES:
        inside = folder / name if folder else None
        try:
            ctypes.CDLL(str(inside) if inside and inside.exists() else name, mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise OSError(
                f"TensorRT is not installed ({error}); it is optional: pip install 'tensorrt-cu13<11'"
            ) from None
