"""Compare a model folder with the Keras network it was made from, and with its own fp32 graph, on images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lookalike_exporter.evaluation.eval_set import eval_set_of
from lookalike_exporter.evaluation.parity import embed_by_keras
from lookalike_exporter.evaluation.quality import Quality
from lookalike_exporter.evaluation.quality_gate import MIN_RECALL
from lookalike_exporter.graph.runner import BATCH, Runner
from lookalike_exporter.images import find_images
from lookalike_exporter.networks.backbone import build_backbone
from lookalike_exporter.output.folder import ModelFolder
from lookalike_exporter.pipeline import build_fp32
from lookalike_exporter.request import ExportRequest, Report
from lookalike_exporter.specs import InputSpec

FP32_MIN_RECALL = 0.999
"""The least recall@10 of an fp32 graph against Keras: float32 rounding swaps only what is equally near."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a graph keeps of a reference's results, and the least recall@10 that is required (0 for none)."""

    name: str
    quality: Quality
    required: float

    @property
    def passed(self) -> bool:
        """Whether it keeps enough."""
        return (self.quality.recall_at_10 or 0.0) >= self.required


def verify(
    model: ModelFolder,
    request: ExportRequest,
    images: Path,
    max_images: int,
    min_recall: float | None,
    report: Report,
) -> Sequence[Comparison]:
    """Embed images by Keras, by the rebuilt fp32 graph, and by the folder's graph, and compare the results.

    Args:
        model: What to verify.
        request: How it was made, as its manifest says.
        images: A folder of images.
        max_images: How many of them to use at most.
        min_recall: The least recall@10 against the fp32 graph; None for the precision's gate.
        report: Takes lines.

    Raises:
        ExportError: The network or the images cannot be read.
    """
    backbone = build_backbone(request.network)
    spec = InputSpec(backbone.height, backbone.width, request.resize, color_management=request.color_management)
    graph = build_fp32(request, backbone, spec, report).graph
    image_set = find_images(images, spec, max_images, report)
    eval_set = eval_set_of(image_set, request.metric)
    report(f"embedding {len(image_set)} images three times ...")
    keras = np.concatenate([embed_by_keras(backbone, graph.embedder, batch) for batch in image_set.batches(BATCH)])
    fp32, actual = eval_set.embed(Runner(graph.onnx)), eval_set.embed(Runner(model.graph))
    required = MIN_RECALL.get(model.precision, FP32_MIN_RECALL) if min_recall is None else min_recall
    return (
        Comparison("fp32 vs Keras", eval_set.compare(keras, fp32), FP32_MIN_RECALL),
        Comparison(f"{model.precision} vs Keras", eval_set.compare(keras, actual), 0.0),
        Comparison(f"{model.precision} vs fp32", eval_set.compare(fp32, actual), required),
    )
