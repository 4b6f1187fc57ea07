"""`model.json`: what a server must know of a model beside its graph. Schema version 1."""

import dataclasses
import json
from dataclasses import dataclass

from lookalike_exporter.quality import Quality

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Graph:
    """The ONNX file: name, SHA-256 of its bytes in hex, opset, names of its one input and one output."""

    file: str
    sha256: str
    opset: int
    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Input:
    """The pictures the graph takes (sizes in pixels), and how photos are resized: `bilinear` or `nearest`."""

    height: int
    width: int
    layout: str
    dtype: str
    colour: str
    resize: str


@dataclass(frozen=True, slots=True)
class Output:
    """The embeddings: length, pooling (`avg`, `max`, `flatten` or `model`), metric, and whether they have length 1."""

    dim: int
    pooling: str
    metric: str
    normalised: bool


@dataclass(frozen=True, slots=True)
class Parity:
    """Agreement with Keras over `images` pictures; `max_abs_diff` in the units of an embedding's elements."""

    images: int
    cosine_min: float
    cosine_median: float
    max_abs_diff: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """The projection: from how many numbers, the share of the squared length kept, and the pictures fitted to."""

    numbers: int
    explained_energy: float
    centred: bool
    whitened: bool
    images: int
    images_sha256: str
    quality: Quality


@dataclass(frozen=True, slots=True)
class Reduced:
    """The precision's variant against the fp32 graph; for int8 what it was calibrated on and what stayed fp32.

    Without photos only generated pictures were compared: then the shares of neighbours mean nothing and are left out.
    """

    quality: Quality
    kept: tuple[str, ...] = ()
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
    graph: Graph
    input: Input
    preprocess: str
    output: Output
    precision: str
    parity: Parity
    projection: Fitted | None
    reduced: Reduced | None
    arguments: tuple[str, ...]
    """Of the command that made it, but where to: with the weights and pictures at hand, enough to make it again."""
    tools: Tools

    def to_json(self) -> str:
        """The file's text, with a newline at its end."""
        fields = {"schema_version": SCHEMA_VERSION} | dataclasses.asdict(self)
        return json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def digest_properties(given: Input, output: Output, preprocess: str) -> dict[str, str]:
    """What changes an embedding or its use but may leave the graph as it is, for the graph's own metadata.

    The digest of the graph's file names the model everywhere: with these inside, a model that wants its
    photos resized in another way is another model.
    """
    return {
        "lookalike.height": str(given.height),
        "lookalike.width": str(given.width),
        "lookalike.layout": given.layout,
        "lookalike.colour": given.colour,
        "lookalike.resize": given.resize,
        "lookalike.preprocess": preprocess,
        "lookalike.pooling": output.pooling,
        "lookalike.metric": output.metric,
        "lookalike.normalised": str(output.normalised).lower(),
    }
