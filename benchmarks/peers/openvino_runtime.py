"""OpenVINO on this processor, for the bare runtime and for the peers: what each of them needs of it, once.

Imports nothing of the benchmark: it runs in each peer's own environment. OpenVINO is imported when it is first needed,
since it exists for x86-64 only.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

HINTS = {"auto": "bf16", "fp32": "f32"}
"""The hint for each `--precision`; a processor without bf16 falls back to f32 without a word."""

_HEAVY = {"Convolution", "FullyConnected", "MatMul"}  # the layers that take a network's time


@cache
def openvino() -> Any:
    """Return the module."""
    return importlib.import_module("openvino")


@cache
def _core() -> Any:
    return openvino().Core()


def unavailable_reason(graph: Path) -> str | None:
    """Say why OpenVINO cannot run this graph here; None where it can."""
    try:
        _core().read_model(str(graph))
    except (ImportError, RuntimeError) as error:  # it raises RuntimeError for whatever it does not support
        return str(error).strip().splitlines()[-1]
    return None


def compile_model(graph: Path, streams: int, threads: int, precision: str, shape: Sequence[int] | None = None) -> Any:
    """Compile a graph for this processor.

    Args:
        graph: The ONNX file.
        streams: Runs side by side.
        threads: Threads of all streams together.
        precision: A key of `HINTS`.
        shape: The input's shape where it is always the same; otherwise any number of images.
    """
    model = _core().read_model(str(graph))
    if shape is not None:
        model.reshape(list(shape))
    settings = {
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": HINTS[precision],
    }
    return _core().compile_model(model, "CPU", settings)


def tensor(array: Any) -> Any:
    """Return a tensor over an array's memory, which is not copied."""
    return openvino().Tensor(array, shared_memory=True)


def executed_precision(compiled: Any) -> str:
    """Return what most of the layers that take the time really compute in, such as "bf16", "f32" or "i8"."""
    nodes = (node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops())
    kinds = [str(node["runtimePrecision"].value) for node in nodes if str(node["layerType"].value) in _HEAVY]
    return Counter(kinds).most_common(1)[0][0] if kinds else "f32"
