"""Reading a model folder: what is accepted, and what is rejected with the place and what to do."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import ColorManagement, Metric, Model, Resize
from lookalike_server.inference.manifest import ModelFolder, read_model_folder

GRAPH = b"any bytes do: reading the folder does not load the graph"
DIGEST = hashlib.sha256(GRAPH).hexdigest()
COMPLETE: dict[str, Any] = {
    "schema_version": 2,
    "name": "shoes",
    "backbone": "resnet50",
    "weights": "imagenet",
    "precision": "fp32",
    "graph": {"file": "model.onnx", "sha256": DIGEST, "opset": 18, "input": "images", "output": "embeddings"},
    "input": {
        "height": 200,
        "width": 224,
        "layout": "NHWC",
        "dtype": "uint8",
        "color": "RGB",
        "resize": "nearest",
    },
    "output": {"dim": 2048, "pooling": "avg", "metric": "cosine", "normalized": True},
    "parity": {"max_abs_difference": 6e-8},
    "tools": {"tf2onnx": "1.17"},
}
REMOVED = object()

Write = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Provide a model folder with a graph and no model.json yet."""
    made = tmp_path / "models" / "shoes"
    made.mkdir(parents=True)
    (made / "model.onnx").write_bytes(GRAPH)
    return made


@pytest.fixture
def write(folder: Path) -> Write:
    """Provide a function that writes model.json with values changed by their dotted path."""

    def change(changes: dict[str, Any] | None = None) -> Path:
        manifest = copy.deepcopy(COMPLETE)
        for path, value in (changes or {}).items():
            *parents, name = path.split(".")
            part = manifest
            for parent in parents:
                part = part[parent]
            if value is REMOVED:
                del part[name]
            else:
                part[name] = value
        (folder / "model.json").write_text(json.dumps(manifest), encoding="utf-8")
        return folder

    return change


def rejection(folder: Path) -> str:
    """Return why a folder cannot be used."""
    with pytest.raises(LookalikeError) as caught:
        read_model_folder(folder)
    assert caught.value.code is Code.FAILED_PRECONDITION
    return caught.value.message


def test_complete(write: Write) -> None:
    """Every value of the model is read; unknown ones are ignored."""
    folder = write({"new in a later exporter": 1, "output.new": 2})
    assert read_model_folder(folder) == ModelFolder(
        model=Model(
            name="shoes",
            backbone="resnet50",
            weights="imagenet",
            digest=DIGEST,
            height=200,
            width=224,
            resize=Resize.NEAREST,
            pooling="avg",
            dim=2048,
            metric=Metric.COSINE,
            precision="fp32",
        ),
        graph=folder / "model.onnx",
        input_name="images",
        output_name="embeddings",
    )


@pytest.mark.parametrize("normalized", [True, False])
def test_euclidean(write: Write, normalized: bool) -> None:
    """A euclidean model may be normalized or not."""
    folder = write({"output.metric": "euclidean", "output.normalized": normalized, "input.resize": "bilinear"})
    model = read_model_folder(folder).model
    assert (model.metric, model.resize) == (Metric.EUCLIDEAN, Resize.BILINEAR)


def test_no_folder(tmp_path: Path) -> None:
    """A missing folder is named, with the command that creates one."""
    message = rejection(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere" / "model.json") in message
    assert "No such file or directory" in message
    assert "lookalike-exporter export" in message


def test_a_file_instead_of_a_folder(folder: Path) -> None:
    """The path of the graph is not a model folder."""
    assert "Not a directory" in rejection(folder / "model.onnx")


@pytest.mark.parametrize("text", [b"", b"{", b"null", b"[]", b'"text"', b"\xff\xfe", b'{"schema_version": 1'])
def test_not_a_json_object(folder: Path, text: bytes) -> None:
    """A file that is not a JSON object is rejected by name."""
    (folder / "model.json").write_bytes(text)
    assert str(folder / "model.json") in rejection(folder)


@pytest.mark.parametrize("path", ["schema_version", "name", "graph", "graph.sha256", "input.resize", "output.dim"])
def test_missing_value(write: Write, path: str) -> None:
    """A missing value is named by its path."""
    assert f"model.json: {path}: Field required" in rejection(write({path: REMOVED}))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema_version", "1"),
        ("name", 5),
        ("graph", "model.onnx"),
        ("graph.sha256", "A" * 64),
        ("graph.sha256", "abc"),
        ("input.height", "200"),
        ("input.height", 0),
        ("input.height", 10**9),
        ("input.width", 10**30),
        ("output.dim", 10**9),
        ("input.width", 224.5),
        ("input.layout", "NCHW"),
        ("input.dtype", "float32"),
        ("input.color", "BGR"),
        ("input.resize", "bicubic"),
        ("output.dim", 0),
        ("output.dim", None),
        ("output.metric", "manhattan"),
        ("output.normalized", "yes"),
    ],
)
def test_wrong_value(write: Write, path: str, value: object) -> None:
    """A value of the wrong type or outside its range is named by its path; nothing is converted."""
    assert f"model.json: {path}: " in rejection(write({path: value}))


def test_color_management(write: Write) -> None:
    """Folders without the key, which all were before version 3, ignore profiles; the key counts where it is."""
    assert read_model_folder(write()).model.color_management is ColorManagement.NONE
    for value in ColorManagement:
        changes = {"schema_version": 3, "input.color_management": value.value}
        assert read_model_folder(write(changes)).model.color_management is value
    assert "input.color_management" in rejection(write({"input.color_management": "adobe"}))


@pytest.mark.parametrize("version", [0, 4, 99])
def test_other_schema_version(write: Write, version: int) -> None:
    """Another schema version is rejected, naming both."""
    message = rejection(write({"schema_version": version}))
    assert f"has schema version {version}, this server reads 1 to 3" in message


def test_other_schema_version_of_another_form(folder: Path) -> None:
    """The version is checked first, because another one may have no other key in common."""
    (folder / "model.json").write_text('{"schema_version": 4, "graphs": []}', encoding="utf-8")
    assert "has schema version 4, this server reads 1 to 3" in rejection(folder)


def test_another_graph(write: Write) -> None:
    """A graph that differs from the described one by a single bit is rejected."""
    folder = write()
    damaged = bytearray(GRAPH)
    damaged[7] ^= 1
    (folder / "model.onnx").write_bytes(damaged)
    assert "model.onnx is not the graph that" in rejection(folder)


def test_no_graph(write: Write, folder: Path) -> None:
    """A missing graph is named."""
    write()
    (folder / "model.onnx").unlink()
    assert f"cannot read {folder / 'model.onnx'} (No such file or directory)" in rejection(folder)


@pytest.mark.parametrize(
    "file", ["../model.onnx", "/etc/hostname", "sub/model.onnx", "..\\model.onnx", "", ".", "..", "model.onnx\n", "a b"]
)
def test_graph_elsewhere(write: Write, folder: Path, file: str) -> None:
    """The graph must be in the folder itself; a path to another folder is rejected, though the bytes are right."""
    (folder.parent / "model.onnx").write_bytes(GRAPH)
    (folder / "sub").mkdir()
    (folder / "sub" / "model.onnx").write_bytes(GRAPH)
    assert rejection(write({"graph.file": file}))


def test_cosine_needs_length_one(write: Write) -> None:
    """A cosine model whose graph does not normalize is rejected, because its distances would be wrong."""
    assert "output.normalized must be true where the metric is cosine" in rejection(write({"output.normalized": False}))
