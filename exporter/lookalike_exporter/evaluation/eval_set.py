"""The images that variants are evaluated on."""

from dataclasses import dataclass, replace
from pathlib import Path

from lookalike_exporter.errors import ExportError
from lookalike_exporter.evaluation.quality import NEIGHBORS, Quality, measure_quality
from lookalike_exporter.graph.projection import Embeddings
from lookalike_exporter.graph.runner import BATCH, GraphRunner
from lookalike_exporter.images import ImageSet, Pixels, find_images, generate_images, spread
from lookalike_exporter.request import Report
from lookalike_exporter.specs import InputSpec

EVAL_IMAGES = 500
"""Images that a variant is evaluated on, at most."""

_MIN_EVAL_IMAGES = 32


@dataclass(frozen=True, slots=True)
class EvalSet:
    """Images, or generated ones where there are none, and the metric of the search."""

    images: ImageSet | None
    spec: InputSpec
    metric: str

    def embed(self, runner: GraphRunner) -> Embeddings:
        """Embed all of them: [N, dim]."""
        return runner.run(self.batch) if self.images is None else runner.embed(self.images)

    @property
    def batch(self) -> Pixels:
        """Some of them to time: [N, height, width, 3] uint8 RGB."""
        if self.images is None:
            return generate_images(self.spec.height, self.spec.width)
        return next(self.images.batches(BATCH))

    def compare(self, reference: Embeddings, embeddings: Embeddings) -> Quality:
        """Measure embeddings of them against a reference's."""
        return measure_quality(reference, embeddings, self.metric, real=self.images is not None)


def eval_set_of(images: ImageSet, metric: str) -> EvalSet:
    """Evaluate on these images.

    Raises:
        ExportError: They are not more than the neighbors that are compared.
    """
    if len(images) <= NEIGHBORS:
        raise ExportError(
            f"{images.folder}: {NEIGHBORS} neighbors of each image are compared, there are only {len(images)} images"
        )
    return EvalSet(images, images.spec, metric)


def split_images(folder: Path, spec: InputSpec, max_used: int, report: Report) -> tuple[ImageSet, ImageSet]:
    """Split a folder into the images to make a variant with and others to evaluate it on; the same where too few.

    Args:
        folder: Where to look.
        spec: What they are resized to.
        max_used: The most to make it with.
        report: Takes a line for each image that is left out, and where the two are the same.

    Raises:
        ExportError: No image.
    """
    images = find_images(folder, spec, max_used + EVAL_IMAGES, report)
    # What is made with thousands is evaluated on the smaller part; what needs a hundred, on the larger.
    others = set(spread(images.paths, min(EVAL_IMAGES, len(images) // (5 if max_used > EVAL_IMAGES else 2))))
    if len(others) < _MIN_EVAL_IMAGES:
        report(f"{folder}: {len(images)} images are too few to evaluate on others than those that it is made with")
        return replace(images, paths=images.paths[:max_used]), replace(images, paths=images.paths[:EVAL_IMAGES])
    used = spread([path for path in images.paths if path not in others], max_used)
    return replace(images, paths=used), replace(images, paths=[path for path in images.paths if path in others])
