"""`model.json`: what a server must know of a model beside its graph."""

import dataclasses
import json
from dataclasses import dataclass

from lookalike_exporter.evaluation.parity import Parity, ParityBounds
from lookalike_exporter.evaluation.quality import Quality
from lookalike_exporter.evaluation.runtimes import RuntimeComparison
from lookalike_exporter.output.schema import SCHEMA_VERSION
from lookalike_exporter.specs import InputSpec, OutputSpec


@dataclass(frozen=True, slots=True)
class GraphFile:
    """The ONNX file: name, SHA-256 of its bytes in hex, opset, names of its one input and one output."""

    file: str
    sha256: str
    opset: int
    input: str
    output: str


@dataclass(frozen=True, slots=True)
class ProjectionReport:
    """The projection: from how many dimensions, the share of the squared length kept, and the images fitted to."""

    input_dim: int
    explained_energy: float
    centered: bool
    whitened: bool
    images: int
    images_sha256: str
    quality: Quality


@dataclass(frozen=True, slots=True)
class VariantReport:
    """The fp16 or int8 graph against the fp32 one; for int8 what it was calibrated on and what stayed fp32.

    Without real images only generated ones were compared: then recalls mean nothing and are left out.
    """

    quality: Quality
    fp32_nodes: tuple[str, ...] = ()
    percentile: float | None = None
    images: int | None = None
    images_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Tools:
    """Versions of the libraries that made the graph."""

    tensorflow: str
    keras: str
    tf2onnx: str
    onnx: str
    onnxruntime: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of `model.json`, in its order."""

    name: str
    backbone: str
    weights: str
    graph: GraphFile
    input: InputSpec
    preprocess: str
    output: OutputSpec
    precision: str
    parity: Parity
    parity_bounds: ParityBounds
    projection: ProjectionReport | None
    variant: VariantReport | None
    runtimes: RuntimeComparison | None
    """Of a variant, on the machine of the export."""
    arguments: tuple[str, ...]
    """Of the command that made it, without its destination: with the weights and images, enough to reproduce it."""
    tools: Tools

    def to_json(self) -> str:
        """Return the file's text, with a newline at its end."""
        fields = {"schema_version": SCHEMA_VERSION} | dataclasses.asdict(self)
        return json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
