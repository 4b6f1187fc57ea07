"""One export from the request to the folder: network -> graph -> variants -> evaluation -> output."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import keras
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx

from lookalike_exporter.errors import ExportError
from lookalike_exporter.evaluation.eval_set import EVAL_IMAGES, EvalSet, eval_set_of, split_images
from lookalike_exporter.evaluation.parity import PARITY_BOUNDS, Parity, check_parity
from lookalike_exporter.evaluation.quality import Quality
from lookalike_exporter.evaluation.quality_gate import check_gate, select_variant
from lookalike_exporter.evaluation.runtimes import compare_runtimes
from lookalike_exporter.graph.canonical import INPUT, OUTPUT
from lookalike_exporter.graph.convert import OPSET, EmbeddingGraph, build_graph
from lookalike_exporter.graph.projection import Embeddings
from lookalike_exporter.graph.runner import Runner
from lookalike_exporter.images import find_images, generate_images, read_parity_images
from lookalike_exporter.networks.backbone import Backbone, build_backbone
from lookalike_exporter.output.folder import GRAPH_FILE, MANIFEST_FILE, check_destination, write_folder
from lookalike_exporter.output.manifest import GraphFile, Manifest, ProjectionReport, Tools, VariantReport
from lookalike_exporter.request import ExportRequest, PcaOptions, Report
from lookalike_exporter.specs import InputSpec
from lookalike_exporter.variants import pca
from lookalike_exporter.variants.optimize import CALIBRATION_IMAGES, Variant, to_fp16, to_int8


@dataclass(frozen=True, slots=True)
class Fp32Model:
    """A request's fp32 graph, checked against Keras.

    Attributes:
        graph: With its projection, if any.
        parity: Its agreement with Keras.
        eval_set: The images of `--eval-images`, where given.
        projection: None for none.
        projection_eval_set: What the projection was evaluated on.
    """

    graph: EmbeddingGraph
    parity: Parity
    eval_set: EvalSet | None
    projection: ProjectionReport | None
    projection_eval_set: EvalSet | None


def export(request: ExportRequest, report: Report) -> Manifest:
    """Write the model folder, whole and checked, or raise and write nothing.

    Args:
        request: What to export.
        report: Takes one line for each stage as it ends, with its seconds.

    Returns:
        What was written to `model.json`.

    Raises:
        ExportError: Anything a caller can act on; see the stages.
        OSError: The disk cannot take it.
    """
    out = request.out.resolve()
    check_destination(out, force=request.force)
    with _stage("network", report):
        backbone = build_backbone(request.network)
    spec = InputSpec(backbone.height, backbone.width, request.resize, color_management=request.color_management)
    model = build_fp32(request, backbone, spec, report)
    graph, variant_report, runtimes = model.graph.onnx, None, None
    if request.precision != "fp32":
        variant, quality, eval_set, reference = _build_variant(request, model, spec, report)
        _check_gate(request, request.precision, quality, report)
        calibration = asdict(variant.calibration) if variant.calibration else {}
        variant_report = VariantReport(quality, variant.fp32_nodes, **calibration)
        with _stage("speed in each runtime", report):
            graphs = {"fp32": graph, request.precision: variant.graph}
            runtimes = compare_runtimes(graphs, eval_set, reference, quality)
        graph = variant.graph
    manifest = Manifest(
        name=out.name,
        backbone=backbone.name,
        weights=backbone.weights,
        graph=GraphFile(GRAPH_FILE, hashlib.sha256(graph).hexdigest(), OPSET, INPUT, OUTPUT),
        input=spec,
        preprocess=backbone.preprocess,
        output=model.graph.embedder.output,
        precision=request.precision,
        parity=model.parity,
        parity_bounds=PARITY_BOUNDS,
        projection=model.projection,
        variant=variant_report,
        runtimes=runtimes,
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
    return manifest


def build_fp32(request: ExportRequest, backbone: Backbone, spec: InputSpec, report: Report) -> Fp32Model:
    """Convert and check the network, projected if requested.

    Raises:
        ExportError: It cannot be converted, ONNX Runtime and Keras differ, or a projection cannot be fitted or is
            below its gate.
    """
    with _stage("conversion to ONNX", report):
        graph = build_graph(backbone, spec, pooling=request.pooling, metric=request.metric)
    eval_set = None
    if request.eval_images is not None:
        eval_set = eval_set_of(find_images(request.eval_images, spec, EVAL_IMAGES, report), request.metric)
    projection, projection_eval_set = None, None
    if request.pca is not None:
        with _stage("projection", report):
            graph, projection, projection_eval_set = _project(
                request, request.pca, backbone, spec, graph, eval_set, report
            )
        _check_gate(request, "projection", projection.quality, report)
        report(
            f"projection: {projection.input_dim} -> {graph.embedder.output.dim} dimensions "
            f"keep {projection.explained_energy:.4f} of the energy"
        )
    with _stage("parity with Keras", report):
        if request.parity_images is None:
            images = generate_images(spec.height, spec.width)
        else:
            images = read_parity_images(request.parity_images, spec)
        parity = check_parity(graph.onnx, backbone, graph.embedder, images)
    return Fp32Model(graph, parity, eval_set, projection, projection_eval_set)


def _project(
    request: ExportRequest,
    options: PcaOptions,
    backbone: Backbone,
    spec: InputSpec,
    graph: EmbeddingGraph,
    eval_set: EvalSet | None,
    report: Report,
) -> tuple[EmbeddingGraph, ProjectionReport, EvalSet]:
    """Fit a projection to the embeddings of a graph, and build the graph that has it."""
    if eval_set is None:
        images, others = split_images(options.images, spec, pca.MAX_IMAGES, report)
        if len(images) <= options.dim:  # rather evaluated on the same ones than not at all
            images = find_images(options.images, spec, pca.MAX_IMAGES, lambda _: None)
    else:
        images = others = find_images(options.images, spec, pca.MAX_IMAGES, report)
    runner = Runner(graph.onnx)
    embeddings = runner.embed(images)
    projection = pca.fit(embeddings, options.dim, center=options.center, whiten=options.whiten)
    eval_set = eval_set or eval_set_of(others, request.metric)
    projected = build_graph(backbone, spec, pooling=request.pooling, metric=request.metric, projection=projection)
    quality = eval_set.compare(eval_set.embed(runner), eval_set.embed(Runner(projected.onnx)))
    projection_report = ProjectionReport(
        input_dim=embeddings.shape[1],
        explained_energy=projection.energy,
        centered=projection.centered,
        whitened=projection.whitened,
        images=len(images),
        images_sha256=images.digest,
        quality=quality,
    )
    return projected, projection_report, eval_set


def _build_variant(
    request: ExportRequest, model: Fp32Model, spec: InputSpec, report: Report
) -> tuple[Variant, Quality, EvalSet, Embeddings]:
    """Make the fp16 or int8 variant, and measure it against the fp32 graph, whose embeddings are returned too."""
    eval_set, graph = model.eval_set, model.graph.onnx
    with _stage(request.precision, report):
        if request.precision == "fp16":
            eval_set = eval_set or model.projection_eval_set or EvalSet(None, spec, request.metric)
            variant, reference = to_fp16(graph), eval_set.embed(Runner(graph))
            quality = eval_set.compare(reference, eval_set.embed(Runner(variant.graph)))
            return variant, quality, eval_set, reference
        folder = request.calibration_images
        if folder is None:
            raise ExportError("--precision int8 needs --calibration-images FOLDER, of the kind that will be searched")
        if eval_set is None:
            images, others = split_images(folder, spec, CALIBRATION_IMAGES, report)
        else:
            images = others = find_images(folder, spec, CALIBRATION_IMAGES, report)
        variants = to_int8(graph, images)
        eval_set = eval_set or eval_set_of(others, request.metric)
        reference = eval_set.embed(Runner(graph))
        return *select_variant(variants, reference, eval_set, report), eval_set, reference


def _check_gate(request: ExportRequest, name: str, quality: Quality, report: Report) -> None:
    report(check_gate(name, quality, request.min_recall, allow_quality_drop=request.allow_quality_drop))


@contextmanager
def _stage(name: str, report: Report) -> Iterator[None]:
    report(f"{name} ...")
    begin = time.monotonic()
    yield
    report(f"{name}: {time.monotonic() - begin:.1f} s")
