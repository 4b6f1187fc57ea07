"""Which variant and which runtime to take on the machine that measured them."""

from collections.abc import Sequence
from dataclasses import dataclass

from lookalike_exporter.evaluation.parity import PARITY_BOUNDS
from lookalike_exporter.evaluation.quality_gate import MIN_RECALL

MARGIN = 1.25
"""How many times the fp32 file's images a second x recall@10 another file must reach to be recommended."""


@dataclass(frozen=True, slots=True)
class RuntimeFigures:
    """A variant in a runtime.

    Attributes:
        variant: `fp32` for the fp32 file, `fp16` or `int8` for the other one.
        runtime: `onnxruntime` or `openvino`.
        version: The runtime's.
        precision: What it computed in: `fp32`, `fp16` or `bf16`; `int8+` and one of them where most layers were int8.
        latency_ms: Milliseconds for one image, on every core.
        images_per_second: In batches, one on each core.
        recall_at_10: Against the fp32 file in ONNX Runtime; None without real images.
        cosine_p1: The first percentile of the cosines with the fp32 file's embeddings in ONNX Runtime.
    """

    variant: str
    runtime: str
    version: str
    precision: str
    latency_ms: float
    images_per_second: float
    recall_at_10: float | None
    cosine_p1: float | None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The variant and the runtime to take, and why, in one line."""

    variant: str
    runtime: str
    reason: str


def recommend(rows: Sequence[RuntimeFigures]) -> Recommendation:
    """Recommend the fp32 file in its fastest runtime, unless another file wins by more than it loses.

    The fp32 file needs no calibration, is a reference for every other, and runs in bf16 where the processor has it, at
    nearly no loss; so it is the baseline, in whichever runtime embeds the most images a second within
    `PARITY_BOUNDS`. Another file costs a calibration, a second model, and a catalog that must be embedded again
    whenever one changes to it or back. So it is recommended only if it passes its gate (`MIN_RECALL`) and its images
    a second x recall@10, what it gains by what it loses, is `MARGIN` times the baseline's or more.

    Args:
        rows: With the fp32 file in ONNX Runtime among them.
    """
    baseline = max(filter(_is_baseline, rows), key=lambda row: row.images_per_second)
    chosen = f"{baseline.images_per_second:.1f} images/s in {baseline.precision}"
    others = [row for row in rows if row.variant != "fp32"]
    if not others:
        return Recommendation("fp32", baseline.runtime, chosen)
    judged = [row for row in others if row.recall_at_10 is not None]
    if not judged:
        name = others[0].variant
        return Recommendation("fp32", baseline.runtime, f"{chosen}; without real images {name} was not judged")
    kept = [row for row in judged if (row.recall_at_10 or 0.0) >= MIN_RECALL[row.variant]]
    best = max(kept or judged, key=_score)
    if not kept:
        recall = f"a recall@10 of {best.recall_at_10:.3f}, below its gate of {MIN_RECALL[best.variant]}"
        return Recommendation("fp32", baseline.runtime, f"{chosen}; {best.variant} keeps {recall}")
    factor = _score(best) / max(_score(baseline), 1e-9)
    compared = f"{factor:.2f} times fp32's images/s x recall@10, {MARGIN} needed"
    if factor < MARGIN:
        return Recommendation("fp32", baseline.runtime, f"{chosen}; {best.variant} gives {compared}")
    return Recommendation(
        best.variant, best.runtime, f"{best.images_per_second:.1f} images/s in {best.precision}: {compared}"
    )


def _is_baseline(row: RuntimeFigures) -> bool:
    """Return whether it is the fp32 file, and in a runtime whose embeddings may share a catalog with the others'."""
    within = row.cosine_p1 is None or row.cosine_p1 >= PARITY_BOUNDS.min_cosine
    return row.variant == "fp32" and (row.runtime == "onnxruntime" or within)


def _score(row: RuntimeFigures) -> float:
    return row.images_per_second * (1.0 if row.recall_at_10 is None else row.recall_at_10)
