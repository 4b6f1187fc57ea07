"""Model folders whose graphs runtimes disagree about, or whose runs fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from lookalike_server.inference.manifest import ModelFolder, read_model_folder
from support.tiny_model import manifest, serialized_model

_MEAN = [
    helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.FLOAT),
    helper.make_node("ReduceMean", ["wide", "sides"], ["means"], keepdims=0),
]
_SIDES = {"sides": np.array([1, 2], dtype=np.int64)}


def fails_on_white(folder: Path, white: int = 255) -> ModelFolder:
    """Write a model that embeds an image as its mean color, and whose run fails where a channel is `white` or more."""
    nodes = [
        *_MEAN,
        helper.make_node("ReduceMax", ["wide"], ["brightest"], keepdims=0),
        helper.make_node("Greater", ["brightest", "limit"], ["is_white"]),
        helper.make_node("Cast", ["is_white"], ["whites"], to=TensorProto.INT64),
        helper.make_node("Mul", ["whites", "two"], ["more"]),
        helper.make_node("Add", ["more", "three"], ["columns"]),
        helper.make_node("Concat", ["rows", "columns"], ["shape"], axis=0),
        helper.make_node("Reshape", ["means", "shape"], ["embeddings"]),
    ]
    constants: dict[str, Any] = {
        "limit": np.float32(white - 0.5),
        "two": np.array([2], dtype=np.int64),
        "three": np.array([3], dtype=np.int64),
        "rows": np.array([-1], dtype=np.int64),
    }
    return _write(folder, nodes, constants)


def saturates(folder: Path) -> ModelFolder:
    """Write a model that converts numbers above 255 to uint8: ONNX Runtime wraps them around, OpenVINO saturates."""
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "three"], ["tripled"]),
        helper.make_node("Cast", ["tripled"], ["narrow"], to=TensorProto.UINT8),
        helper.make_node("Cast", ["narrow"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["wide", "sides"], ["embeddings"], keepdims=0),
    ]
    return _write(folder, nodes, {"three": np.float32(3)})


def takes_determinants(folder: Path) -> ModelFolder:
    """Write a model with the operator Det, which OpenVINO lacks."""
    nodes = [
        helper.make_node("Cast", ["images"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["wide"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "small"], ["scaled"]),
        helper.make_node("Det", ["scaled"], ["embeddings"]),
    ]
    return _write(folder, nodes, {"small": np.float32(1e-3)})


def _write(folder: Path, nodes: list[Any], constants: dict[str, Any]) -> ModelFolder:
    serialized = serialized_model("odd", nodes, _SIDES | constants, "euclidean", 3)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(serialized)
    (folder / "model.json").write_text(manifest("euclidean", serialized, folder.name, 3), encoding="utf-8")
    return read_model_folder(folder)
