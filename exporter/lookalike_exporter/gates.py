"""What a variant must keep of the answers to be written, and the table of what it keeps."""

from collections.abc import Sequence
from dataclasses import dataclass

from lookalike_exporter.errors import ExportError
from lookalike_exporter.quality import Quality

OVERLAP = {"fp16": 0.99, "int8": 0.88, "projection": 0.90}
"""The least mean share of the ten nearest; `--min-overlap` sets another."""

COSINE = 0.999
"""Without photos neighbours mean nothing: then the smallest cosine of a picture's two embeddings must be this."""


def check_gate(what: str, quality: Quality, min_overlap: float | None, *, accept_worse: bool) -> str:
    """Judge a variant; one line that says how it went.

    Args:
        what: A key of `OVERLAP`.
        quality: What it keeps.
        min_overlap: In place of its usual gate.
        accept_worse: Whether to go on where it is under it.

    Raises:
        ExportError: It is under its gate and nobody said to go on.
    """
    if quality.top10_overlap is None:
        found, demanded, name = quality.cosine_min or 0.0, COSINE, "cosine with fp32"
    else:
        found, demanded, name = quality.top10_overlap, OVERLAP[what], "overlap of the ten nearest"
        if min_overlap is not None:
            demanded = min_overlap
    said = f"{what}: {name} {found:.4f} over {quality.images} pictures, at least {demanded} is demanded"
    if found >= demanded:
        return said
    if accept_worse:
        return f"{said}: UNDER ITS GATE, written all the same"
    raise ExportError(f"{said}; nothing was written. --min-overlap sets another gate, --accept-worse goes on")


QUALITY = ("cosine min", "p1", "median", "top 10 kept", "same nearest")


@dataclass(frozen=True, slots=True)
class Row:
    """A variant: images a second by batch size, and what it keeps of the answers (None: it is the reference)."""

    name: str
    speed: dict[int, float]
    quality: Quality | None


def table(rows: Sequence[Row]) -> list[str]:
    """The rows as lines of text with a heading."""
    batches = list(rows[0].speed)
    cells = [["variant", *(f"images/s, batch {size}" for size in batches), *QUALITY]]
    for row in rows:
        speed = [f"{row.speed[size]:.1f}" for size in batches]
        cells.append([row.name, *speed, *quality_cells(row.quality)])
    return aligned(cells)


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Lines of text with their columns under each other."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def quality_cells(quality: Quality | None) -> list[str]:
    """The columns `QUALITY` as text; "-" where there is no figure."""
    if quality is None:
        return ["-"] * len(QUALITY)
    cosines = (quality.cosine_min, quality.cosine_p1, quality.cosine_median)
    shares = (quality.top10_overlap, quality.same_nearest)
    return [_text(value, 6) for value in cosines] + [_text(value, 3) for value in shares]


def _text(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
