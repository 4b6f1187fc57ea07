"""One export from beginning to end: build, wrap, convert, check, write."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import keras
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx

from lookalike_exporter.backbone import Backbone, known_backbone, loaded_backbone
from lookalike_exporter.canonical import INPUT, OUTPUT
from lookalike_exporter.convert import OPSET, Embedder, to_onnx, wrap
from lookalike_exporter.errors import ExportError
from lookalike_exporter.folder import GRAPH_FILE, MANIFEST_FILE, check_place, write_folder
from lookalike_exporter.gates import check_gate, table
from lookalike_exporter.manifest import (
    Fitted,
    Graph,
    Input,
    Manifest,
    Output,
    Parity,
    Reduced,
    Tools,
    digest_properties,
)
from lookalike_exporter.parity import check_parity
from lookalike_exporter.photos import folder_photos, generated_photos
from lookalike_exporter.projection import Projection
from lookalike_exporter.quality import Quality
from lookalike_exporter.reduce import Fit, Judge, fitted, judge_of, measured, to_half, to_int8
from lookalike_exporter.request import KnownNetwork, OwnNetwork, Request


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written to `model.json`, and the table of speeds and quality (no lines for a plain fp32 graph)."""

    manifest: Manifest
    table: Sequence[str]


def export(request: Request, report: Callable[[str], None]) -> Exported:
    """Makes the model folder, whole and checked, or raises and makes nothing.

    Args:
        request: What to do.
        report: Takes one line for each stage as it ends, with its seconds.

    Raises:
        ExportError: Anything a caller can act on; see the stages.
        OSError: The disk refuses.
    """
    out = request.out.resolve()
    check_place(out, force=request.force)
    with _stage("network", report):
        backbone = built(request.source)
    plain = full_precision(request, backbone, report)
    given, metric, judge = plain.given, request.metric, plain.judge
    graphs, qualities = {"fp32": plain.graph}, {}
    reduced: Reduced | None = None
    if request.precision == "fp16":
        with _stage("fp16", report):
            judge = judge or (plain.fit.judge if plain.fit else Judge(None, given, metric))
            graphs["fp16"], reduced = to_half(plain.graph, judge)
    elif request.precision == "int8":
        if request.calibrate_on is None:
            raise ExportError("--precision int8 needs --calibrate-on FOLDER: photos of the kind that will be searched")
        with _stage("int8", report):
            graphs["int8"], reduced, judge = to_int8(plain.graph, request.calibrate_on, judge, given, metric, report)
    if reduced is not None:
        _pass(request, request.precision, reduced.quality, report)
        qualities[request.precision] = reduced.quality
    lines: list[str] = []
    if reduced is not None and judge is not None:
        with _stage("speed", report):
            lines = table(measured(graphs, qualities, judge))
    graph = graphs[request.precision]
    manifest = Manifest(
        name=out.name,
        backbone=backbone.name,
        weights=backbone.weights,
        graph=Graph(GRAPH_FILE, hashlib.sha256(graph).hexdigest(), OPSET, INPUT, OUTPUT),
        input=given,
        preprocess=backbone.preprocess,
        output=plain.output,
        precision=request.precision,
        parity=plain.parity,
        projection=plain.fitted,
        reduced=reduced,
        arguments=request.arguments,
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
    return Exported(manifest, lines)


@dataclass(frozen=True, slots=True)
class FullPrecision:
    """The fp32 graph of a request, checked against Keras, and what it was made of."""

    graph: bytes
    embedder: Embedder
    given: Input
    output: Output
    parity: Parity
    judge: Judge | None
    """On the pictures of `--judge-on`, where it is given."""
    fit: Fit | None
    fitted: Fitted | None


def full_precision(request: Request, backbone: Backbone, report: Callable[[str], None]) -> FullPrecision:
    """Wraps, converts and checks the network, and fits the projection that is asked for.

    Raises:
        ExportError: It cannot be converted, ONNX Runtime and Keras differ, or a projection cannot be fitted or is
            under its gate.
    """
    given = Input(backbone.height, backbone.width, "NHWC", "uint8", "RGB", request.resize)

    def converted(projection: Projection | None) -> tuple[bytes, Embedder, Output]:
        embedder = wrap(backbone, pooling=request.pooling, metric=request.metric, projection=projection)
        output = Output(embedder.dim, embedder.pooling, embedder.metric, embedder.normalised)
        return to_onnx(embedder, digest_properties(given, output, backbone.preprocess)), embedder, output

    with _stage("conversion to ONNX", report):
        graph, embedder, output = converted(None)
    judge = judge_of(request.judge_on, given, request.metric, report) if request.judge_on else None
    fit, kept = None, None
    if request.projection is not None:
        with _stage("projection", report):
            fit = fitted(graph, request.projection, judge, given, request.metric, report)
            graph, embedder, output = converted(fit.projection)
            kept = fit.judged(graph)
        _pass(request, "projection", kept.quality, report)
        report(f"projection: {kept.numbers} -> {output.dim} numbers keep {kept.explained_energy:.4f} of the energy")
    with _stage("parity with Keras", report):
        if request.parity_images is None:
            photos = generated_photos(given.height, given.width)
        else:
            photos = folder_photos(request.parity_images, given.height, given.width, given.resize)
        parity = check_parity(graph, backbone, embedder, photos)
    return FullPrecision(graph, embedder, given, output, parity, judge, fit, kept)


def built(source: KnownNetwork | OwnNetwork) -> Backbone:
    """Builds or loads the network.

    Raises:
        ExportError: Its weights cannot be had, or its file is no usable model.
    """
    # A user's own Keras settings must not change what is exported.
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    if isinstance(source, OwnNetwork):
        return loaded_backbone(source.model, source.preprocess, source.input_size, source.layer)
    backbone = known_backbone(source.architecture, source.weights, source.seed, source.input_size)
    return replace(backbone, preprocess=source.preprocess) if source.preprocess else backbone


def _pass(request: Request, what: str, quality: Quality, report: Callable[[str], None]) -> None:
    report(check_gate(what, quality, request.min_overlap, accept_worse=request.accept_worse))


@contextmanager
def _stage(name: str, report: Callable[[str], None]) -> Iterator[None]:
    report(f"{name} ...")
    begun = time.monotonic()
    yield
    report(f"{name}: {time.monotonic() - begun:.1f} s")
