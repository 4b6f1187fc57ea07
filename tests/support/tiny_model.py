"""Writes the tiny models that the server's tests run to tests/support/models: `python tests/support/tiny_model.py`.

A real ONNX graph under the same contract as an exported one, small enough to commit: an image of 32 x 32 becomes the
mean color of each of its 4 x 4 tiles, 48 dimensions centered on mid-gray. Similar images are near each other, so
results can be checked.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 32
TILE = 8
DIM = 3 * (SIDE // TILE) ** 2
OPSET = 18
FOLDER = Path(__file__).parent / "models"


def graph(metric: str) -> bytes:
    """Serialize the graph: uint8 [n, 32, 32, 3] to float32 [n, 48], of length 1 where the metric is cosine."""
    nodes = [
        helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["wide", "middle"], ["centered"]),
        helper.make_node("Transpose", ["centered"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["tiles"], kernel_shape=[TILE, TILE], strides=[TILE, TILE]),
        helper.make_node("Flatten", ["tiles"], [features(metric)]),
    ]
    return serialized_model("tiny", nodes, {"middle": np.float32(127.5)}, metric, DIM)


def features(metric: str) -> str:
    """Name the tensor before normalization, which is the output where there is none."""
    return "features" if metric == "cosine" else "embeddings"


def serialized_model(name: str, nodes: list[Any], constants: dict[str, Any], metric: str, dim: int) -> bytes:
    """Serialize nodes from uint8 `images` to float32 `features(metric)`, [n, dim], followed by normalization."""
    if metric == "cosine":
        nodes = [
            *nodes,
            helper.make_node("ReduceL2", ["features", "last_axis"], ["length"], keepdims=1),
            helper.make_node("Max", ["length", "epsilon"], ["safe_length"]),
            helper.make_node("Div", ["features", "safe_length"], ["embeddings"]),
        ]
    constants = {**constants, "last_axis": np.array([1], dtype=np.int64), "epsilon": np.float32(1e-12)}
    used = {name for node in nodes for name in node.input}
    model = helper.make_model(
        helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
            [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", dim])],
            [numpy_helper.from_array(np.asarray(value), each) for each, value in constants.items() if each in used],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def manifest(metric: str, serialized: bytes, name: str, dim: int = DIM, pooling: str = "avg") -> str:
    """Return the model.json for a graph."""
    return (
        json.dumps(
            {
                "schema_version": 2,
                "name": name,
                "backbone": "tiles",
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
                "output": {"dim": dim, "pooling": pooling, "metric": metric, "normalized": metric == "cosine"},
                "precision": "fp32",
            },
            indent=2,
        )
        + "\n"
    )


def write(folder: Path) -> None:
    """Write both model folders into this folder."""
    for metric, name in (("cosine", "tiny"), ("euclidean", "tiny-euclidean")):
        serialized = graph(metric)
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "model.onnx").write_bytes(serialized)
        (folder / name / "model.json").write_text(manifest(metric, serialized, name), encoding="utf-8")


if __name__ == "__main__":
    write(FOLDER)
