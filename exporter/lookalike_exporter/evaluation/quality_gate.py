"""What a variant must keep of the search results to be written, and which of several is written."""

from collections.abc import Iterable

from lookalike_exporter.errors import ExportError
from lookalike_exporter.evaluation.eval_set import EvalSet
from lookalike_exporter.evaluation.quality import Quality
from lookalike_exporter.graph.projection import Embeddings
from lookalike_exporter.graph.runner import Runner
from lookalike_exporter.request import Report
from lookalike_exporter.variants.optimize import Variant

MIN_RECALL = {"fp16": 0.99, "int8": 0.88, "projection": 0.90}
"""The least recall@10; `--min-recall` sets another."""

MIN_COSINE = 0.999
"""Without real images neighbors mean nothing: then the smallest cosine of an image's two embeddings must be this."""

_NOISE = 0.005  # of a recall@10


def check_gate(name: str, quality: Quality, min_recall: float | None, *, allow_quality_drop: bool) -> str:
    """Check a variant against its gate; return one line that describes the outcome.

    Args:
        name: A key of `MIN_RECALL`.
        quality: What it keeps.
        min_recall: In place of its default gate.
        allow_quality_drop: Whether to go on where it is below it.

    Raises:
        ExportError: It is below its gate and a quality drop is not allowed.
    """
    if quality.recall_at_10 is None:
        value, required, measure = quality.cosine_min or 0.0, MIN_COSINE, "cosine with fp32"
    else:
        value, required, measure = quality.recall_at_10, MIN_RECALL[name], "recall@10"
        if min_recall is not None:
            required = min_recall
    line = f"{name}: {measure} {value:.4f} over {quality.images} images, at least {required} is required"
    if value >= required:
        return line
    if allow_quality_drop:
        return f"{line}: BELOW ITS GATE, written nevertheless"
    raise ExportError(
        f"{line}; nothing was written. --min-recall sets another gate, --allow-quality-drop writes it nevertheless"
    )


def select_variant(
    variants: Iterable[Variant], reference: Embeddings, eval_set: EvalSet, report: Report
) -> tuple[Variant, Quality]:
    """Select the first variant whose recall@10 is the best but for noise.

    Args:
        variants: Those with the fewest layers in fp32 first.
        reference: The fp32 graph's embeddings of `eval_set`.
        eval_set: What to compare on: real images.
        report: Takes a line for each.
    """
    candidates = []
    for variant in variants:
        quality = eval_set.compare(reference, eval_set.embed(Runner(variant.graph)))
        report(f"int8, in fp32: {', '.join(variant.fp32_nodes) or 'nothing'}: recall@10 {quality.recall_at_10:.3f}")
        candidates.append((variant, quality))
    best = max(quality.recall_at_10 or 0.0 for _, quality in candidates)
    return next(each for each in candidates if (each[1].recall_at_10 or 0.0) >= best - _NOISE)
