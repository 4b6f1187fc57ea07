"""One export from beginning to end: build, wrap, convert, check, write."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx

from lookalike_exporter.backbone import Backbone, known_backbone, loaded_backbone
from lookalike_exporter.canonical import INPUT, OUTPUT
from lookalike_exporter.convert import OPSET, to_onnx, wrap
from lookalike_exporter.folder import GRAPH_FILE, MANIFEST_FILE, check_place, write_folder
from lookalike_exporter.manifest import Graph, Input, Manifest, Output, Tools, digest_properties
from lookalike_exporter.parity import check_parity
from lookalike_exporter.photos import folder_photos, generated_photos


@dataclass(frozen=True, slots=True)
class KnownNetwork:
    """A network of ours: a key of `ARCHITECTURES`, and `imagenet`, `random` (by `seed`) or a weights file."""

    architecture: str
    weights: str
    seed: int


@dataclass(frozen=True, slots=True)
class OwnNetwork:
    """A caller's Keras file, and the preprocessing mode it was trained with."""

    model: Path
    preprocess: str


@dataclass(frozen=True, slots=True)
class Request:
    """What to export and where to.

    Attributes:
        source: The network.
        out: The folder to make; its last part is the model's name.
        pooling: `avg` or `max`.
        metric: `cosine` or `euclidean`.
        resize: `bilinear` or `nearest`: how the server resizes photos.
        precision: `fp32`.
        parity_images: A folder of photos for the parity check; None for generated ones.
        force: Whether a model folder at `out` is replaced.
    """

    source: KnownNetwork | OwnNetwork
    out: Path
    pooling: str
    metric: str
    resize: str
    precision: str
    parity_images: Path | None
    force: bool


def export(request: Request, report: Callable[[str], None]) -> Manifest:
    """Makes the model folder, whole and checked, or raises and makes nothing.

    Args:
        request: What to do.
        report: Takes one line for each stage as it ends, with its seconds.

    Returns:
        What was written to `model.json`.

    Raises:
        ExportError: Anything a caller can act on; see the stages.
        OSError: The disk refuses.
    """
    out = request.out.resolve()
    check_place(out, force=request.force)
    # A user's own Keras settings must not change what is exported.
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    with _stage("network", report):
        backbone = _build(request.source)
    with _stage("conversion to ONNX", report):
        embedder = wrap(backbone, pooling=request.pooling, metric=request.metric)
        given = Input(backbone.height, backbone.width, "NHWC", "uint8", "RGB", request.resize)
        output = Output(embedder.dim, embedder.pooling, embedder.metric, embedder.normalised)
        graph = to_onnx(embedder, digest_properties(given, output, backbone.preprocess))
    with _stage("parity with Keras", report):
        if request.parity_images is None:
            photos = generated_photos(given.height, given.width)
        else:
            photos = folder_photos(request.parity_images, given.height, given.width, given.resize)
        parity = check_parity(graph, backbone, embedder, photos)
    manifest = Manifest(
        name=out.name,
        backbone=backbone.name,
        weights=backbone.weights,
        graph=Graph(GRAPH_FILE, hashlib.sha256(graph).hexdigest(), OPSET, INPUT, OUTPUT),
        input=given,
        preprocess=backbone.preprocess,
        output=output,
        precision=request.precision,
        parity=parity,
        tools=Tools(
            tensorflow=tf.__version__,
            keras=keras.__version__,
            tf2onnx=tf2onnx.__version__,
            onnx=onnx.__version__,
            onnxruntime=onnxruntime.__version__,
        ),
    )
    with _stage("model folder", report):
        files = {GRAPH_FILE: graph, MANIFEST_FILE: manifest.to_json().encode()}
        write_folder(out, files, force=request.force)
    return manifest


def _build(source: KnownNetwork | OwnNetwork) -> Backbone:
    if isinstance(source, OwnNetwork):
        return loaded_backbone(source.model, source.preprocess)
    return known_backbone(source.architecture, source.weights, source.seed)


@contextmanager
def _stage(name: str, report: Callable[[str], None]) -> Iterator[None]:
    report(f"{name} ...")
    begun = time.monotonic()
    yield
    report(f"{name}: {time.monotonic() - begun:.1f} s")
