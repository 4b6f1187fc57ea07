"""Tables of figures as lines of text."""

from collections.abc import Sequence

from lookalike_exporter.evaluation.quality import Quality
from lookalike_exporter.evaluation.runtimes import RuntimeComparison
from lookalike_exporter.verify import Comparison

_QUALITY = ("cosine min", "p1", "median", "recall@10", "recall@1")


def runtime_table(comparison: RuntimeComparison) -> list[str]:
    """Show each variant in each runtime, why some are missing, and in the last line which to take."""
    cells = [["variant", "runtime", "precision", "one image, ms", "images/s", "recall@10"]]
    for row in comparison.rows:
        figures = (_number(row.latency_ms, 1), _number(row.images_per_second, 1), _number(row.recall_at_10, 3))
        cells.append([row.variant, row.runtime, row.precision, *figures])
    chosen = comparison.recommended
    folder = "fp32 folder (an export without --precision)" if chosen.variant == "fp32" else f"{chosen.variant} folder"
    return [
        *_align(cells),
        *comparison.missing,
        f"on this machine take the {folder} with {chosen.runtime}: {chosen.reason}",
    ]


def comparison_table(comparisons: Sequence[Comparison]) -> list[str]:
    """Show what a model keeps of each reference's results."""
    cells = [["graph", "images", *_QUALITY, "required"]]
    for each in comparisons:
        required = f"{each.required:.3f}" if each.required else "-"
        cells.append([each.name, str(each.quality.images), *_quality_cells(each.quality), required])
    return _align(cells)


def _align(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _quality_cells(quality: Quality | None) -> list[str]:
    if quality is None:
        return ["-"] * len(_QUALITY)
    cosines = (quality.cosine_min, quality.cosine_p1, quality.cosine_median)
    recalls = (quality.recall_at_10, quality.recall_at_1)
    return [_number(value, 6) for value in cosines] + [_number(value, 3) for value in recalls]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
