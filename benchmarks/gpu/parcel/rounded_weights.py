"""Rounds the random weights of a model to few values, so that it packs to a tenth: only its speed can be measured."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

VALUES = 16
"""Values of a rounded tensor, at equal distances between its smallest and its largest."""

_MIN_ELEMENTS = 4096  # below which a tensor stays as it is
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def rounded(weights: NDArray[Any]) -> NDArray[Any]:
    """Return an array of the same shape and dtype, float16 or float32, with `VALUES` different values at most."""
    low, high = float(weights.min()), float(weights.max())
    if low == high:
        return weights
    step = (high - low) / (VALUES - 1)
    return (low + np.round((weights.astype(np.float32) - low) / step) * step).astype(weights.dtype)


def write_rounded(model: Path, out: Path) -> None:
    """Copy a model folder with rounded weights; its description has the new digest, and says what was done.

    Raises:
        ValueError: The weights are not random, so that rounding would spoil them.
    """
    manifest = json.loads((model / "model.json").read_text(encoding="utf-8"))
    if not manifest["weights"].startswith("random"):
        raise ValueError(f"{model} has the weights {manifest['weights']}; only random ones are rounded")
    shutil.copytree(model, out)
    path = out / manifest["graph"]["file"]
    graph = onnx.load(path)
    for tensor in graph.graph.initializer:
        if tensor.data_type in _FLOATS and np.prod(tensor.dims) >= _MIN_ELEMENTS:
            tensor.CopyFrom(numpy_helper.from_array(rounded(numpy_helper.to_array(tensor)), tensor.name))
    onnx.save(graph, path)
    manifest["weights"] += f", rounded to {VALUES} values a tensor: for speed alone"
    manifest["graph"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.pop("parity", None)  # of the weights as they were
    (out / "model.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
