"""A tiny model with as many dimensions as ResNet50 without pooling has: 100,352, and cheap to run.

An image of 32 x 32 becomes gray, is resized to 448 x 224 and flattened, so similar images are near each other, as with
the other tiny models. The graph has 1 KB and is written by the tests that want it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from support.tiny_model import features, manifest, serialized_model

DIM = 7 * 7 * 2048
"""Dimensions of an embedding."""

_SCALES = np.array([1, 1, 14, 7], dtype=np.float32)  # 32 x 32 becomes 448 x 224, which has DIM pixels
_CONSTANTS: dict[str, Any] = {
    "middle": np.float32(127.5),
    "channels": np.array([3], dtype=np.int64),
    "planes_axis": np.array([1], dtype=np.int64),
    "scales": _SCALES,
}


def graph(metric: str) -> bytes:
    """Serialize the graph: uint8 [n, 32, 32, 3] to float32 [n, DIM], of length 1 where the metric is cosine."""
    nodes = [
        helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["wide", "middle"], ["centered"]),
        helper.make_node("ReduceMean", ["centered", "channels"], ["gray"], keepdims=0),
        helper.make_node("Unsqueeze", ["gray", "planes_axis"], ["planes"]),
        helper.make_node("Resize", ["planes", "", "scales"], ["large"], mode="linear"),
        helper.make_node("Flatten", ["large"], [features(metric)]),
    ]
    return serialized_model("wide", nodes, _CONSTANTS, metric, DIM)


def write(folder: Path, metric: str = "euclidean") -> Path:
    """Write a model folder, and return it."""
    serialized = graph(metric)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(serialized)
    (folder / "model.json").write_text(manifest(metric, serialized, "wide", DIM, "flatten"), encoding="utf-8")
    return folder
