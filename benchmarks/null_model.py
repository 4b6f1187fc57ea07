"""Makes a model that costs next to nothing, so that what remains is the server: `python -m benchmarks.null_model DIR`.

It takes an image like every other model and returns its first pixels, shifted so that they are never all zero. A
catalog of given vectors needs one of their dimensions and their metric.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 224
OPSET = 18

Metric = Literal["cosine", "euclidean"]


def write_null_model(folder: Path, dim: int = 4, metric: Metric = "euclidean") -> None:
    """Write model.onnx and model.json.

    Args:
        folder: The folder, created when missing.
        dim: Dimensions of an embedding; a box of the image's upper left corner has as many values.
        metric: How embeddings are compared; "cosine" ones have length 1.
    """
    depth, height, width = _box(dim)
    constants = {"begin": [0, 0, 0, 0], "end": [2**31, height, width, depth], "shape": [-1, dim]}
    last = "features" if metric == "cosine" else "embeddings"
    nodes = [
        helper.make_node("Slice", ["images", "begin", "end"], ["pixels"]),
        helper.make_node("Reshape", ["pixels", "shape"], ["row"]),
        helper.make_node("Cast", ["row"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["wide", "one"], [last]),
    ]
    if metric == "cosine":
        nodes.append(helper.make_node("LpNormalization", [last], ["embeddings"], axis=1, p=2))
    graph = helper.make_graph(
        nodes,
        "null",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", dim])],
        [
            *(numpy_helper.from_array(np.array(value, dtype=np.int64), name) for name, value in constants.items()),
            numpy_helper.from_array(np.array(1, dtype=np.float32), "one"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    serialized = model.SerializeToString(deterministic=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(serialized)
    (folder / "model.json").write_text(_manifest(serialized, dim, metric), encoding="utf-8")


def _box(dim: int) -> tuple[int, int, int]:
    """Return the channels, height and width of a box of so many values, of as few channels as can be."""
    for depth in (1, 2, 3):
        width = math.gcd(dim // depth, 128 if depth == 1 else SIDE)
        if dim % depth == 0 and dim // depth // width <= SIDE:
            return depth, dim // depth // width, width
    raise ValueError(f"no box of {dim} values fits into the image")


def _manifest(serialized: bytes, dim: int, metric: Metric) -> str:
    manifest = {
        "schema_version": 2,
        "name": "null",
        "backbone": "null",
        "weights": "none",
        "graph": {
            "file": "model.onnx",
            "sha256": hashlib.sha256(serialized).hexdigest(),
            "opset": OPSET,
            "input": "images",
            "output": "embeddings",
        },
        "input": {
            "height": SIDE,
            "width": SIDE,
            "layout": "NHWC",
            "dtype": "uint8",
            "color": "RGB",
            "resize": "bilinear",
        },
        "preprocess": "none",
        "output": {"dim": dim, "pooling": "avg", "metric": metric, "normalized": metric == "cosine"},
        "precision": "fp32",
    }
    return json.dumps(manifest, indent=2) + "\n"


if __name__ == "__main__":
    write_null_model(Path(sys.argv[1]))
