"""Reads a model folder: `model.json`, as the exporter wrote it, and the graph that it describes.

The model's digest is the SHA-256 of the graph file. The exporter also writes what the graph does not compute (resize,
input size, metric) into the graph's metadata, so that the digest covers the whole contract.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import ColorManagement, Metric, Model, ParityBounds, Resize

SCHEMA_VERSIONS = (1, 2, 3)
"""The schema versions that can be read: 1 spells two keys in British English, 1 and 2 know no color management."""

MAX_SIDE = 8192
"""The most pixels of a side of a model's input: an image of this size is 192 MiB, and more is a damaged file."""

MAX_DIM = 1 << 20
"""The most dimensions of an embedding, which then has 4 MiB."""

PARITY_BOUNDS = ParityBounds(min_cosine=0.9995, min_overlap=0.95)
"""The bounds of folders that state none.

Chosen with SqueezeNet's ImageNet weights: in bf16 the least cosine is 0.99989 and the overlap 0.994 on the parity
images, and the least cosine 0.99986 on 2,906 images of products.
"""

P = TypeVar("P", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model on disk: its description, the path of its graph and the names of the graph's input and output.

    Embeddings within `parity_bounds` of ONNX Runtime's belong to the model's digest, whatever computed them.
    """

    model: Model
    graph: Path
    input_name: str
    output_name: str
    parity_bounds: ParityBounds = PARITY_BOUNDS


class _Part(BaseModel):
    # Unknown keys are allowed, because what only informs (parity figures, tool versions) may grow.
    model_config = ConfigDict(frozen=True, strict=True)


class _Graph(_Part):
    file: str = Field(pattern=r"^[\w.-]+$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    input: str
    output: str


class _Input(_Part):
    height: int = Field(ge=1, le=MAX_SIDE)
    width: int = Field(ge=1, le=MAX_SIDE)
    layout: Literal["NHWC"]
    dtype: Literal["uint8"]
    color: Literal["RGB"] = Field(validation_alias=AliasChoices("color", "colour"))  # codespell:ignore
    resize: Literal["bilinear", "nearest"]
    color_management: Literal["srgb", "none"] = "none"


class _Output(_Part):
    dim: int = Field(ge=1, le=MAX_DIM)
    pooling: str
    metric: Literal["cosine", "euclidean"]
    normalized: bool = Field(validation_alias=AliasChoices("normalized", "normalised"))  # codespell:ignore


class _ParityBounds(_Part):
    min_cosine: float = Field(ge=-1, le=1)
    min_overlap: float = Field(ge=0, le=1)


class _Versioned(_Part):
    schema_version: int


class _Manifest(_Versioned):
    name: str
    backbone: str
    weights: str
    precision: str
    graph: _Graph
    input: _Input
    output: _Output
    parity_bounds: _ParityBounds | None = None


def read_model_folder(folder: Path) -> ModelFolder:
    """Read and check a model folder.

    Raises:
        LookalikeError: FAILED_PRECONDITION when it is missing, has another schema, or its graph is another one.
    """
    path = folder / "model.json"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise _unusable(
            f"cannot read {path} ({error.strerror}); create a model with `lookalike-exporter export`"
        ) from None
    # The version first, because a file with another one may differ in everything else.
    version = _parse(_Versioned, path, text).schema_version
    if version not in SCHEMA_VERSIONS:
        raise _unusable(
            f"{path} has schema version {version}, this server reads {SCHEMA_VERSIONS[0]} to {SCHEMA_VERSIONS[-1]};"
            " export the model again"
        )
    manifest = _parse(_Manifest, path, text)
    if manifest.output.metric == "cosine" and not manifest.output.normalized:
        raise _unusable(f"{path}: output.normalized must be true where the metric is cosine; export the model again")
    graph = folder / manifest.graph.file
    if _sha256(graph) != manifest.graph.sha256:
        raise _unusable(f"{graph} is not the graph that {path} describes; export the model again")
    model = Model(
        name=manifest.name,
        backbone=manifest.backbone,
        weights=manifest.weights,
        digest=manifest.graph.sha256,
        height=manifest.input.height,
        width=manifest.input.width,
        resize=Resize(manifest.input.resize),
        pooling=manifest.output.pooling,
        dim=manifest.output.dim,
        metric=Metric(manifest.output.metric),
        precision=manifest.precision,
        color_management=ColorManagement(manifest.input.color_management),
    )
    stated = manifest.parity_bounds
    bounds = ParityBounds(stated.min_cosine, stated.min_overlap) if stated else PARITY_BOUNDS
    return ModelFolder(model, graph, manifest.graph.input, manifest.graph.output, bounds)


def _parse(schema: type[P], path: Path, text: bytes) -> P:
    try:
        return schema.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise _unusable(f"{path}: {place}: {first['msg']}; export the model again") from None


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unusable(f"cannot read {path} ({error.strerror}); export the model again") from None


def _unusable(message: str) -> LookalikeError:
    return LookalikeError(Code.FAILED_PRECONDITION, message)
