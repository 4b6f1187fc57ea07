"""Compares a model folder with the Keras network it was made from, and with its own fp32 variant, on photos."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lookalike_exporter.embed import BATCH, Runner
from lookalike_exporter.errors import ExportError
from lookalike_exporter.export import built, full_precision
from lookalike_exporter.folder import MANIFEST_FILE
from lookalike_exporter.gates import OVERLAP, QUALITY, aligned, quality_cells
from lookalike_exporter.parity import reference
from lookalike_exporter.photos import readable_pictures
from lookalike_exporter.quality import Quality, compare_answers
from lookalike_exporter.reduce import enough
from lookalike_exporter.request import Request

FULL = 0.999
"""The least overlap of an fp32 graph's ten nearest with Keras': float32 rounding swaps only what is equally near."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A model folder: its graph, and the parts of `model.json` that say how it was made."""

    graph: bytes
    digest: str
    precision: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """What a model keeps of its reference's answers, and whether that is enough."""

    lines: Sequence[str]
    passed: bool


def read_folder(folder: Path) -> Folder:
    """Read a model folder that this exporter wrote.

    Raises:
        ExportError: It is none, its graph is not the one described, or it does not say how it was made.
    """
    path = folder / MANIFEST_FILE
    try:
        said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        graph = (folder / said["graph"]["file"]).read_bytes()
        digest, precision = str(said["graph"]["sha256"]), str(said["precision"])
        arguments = tuple(map(str, said.get("arguments") or ()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{path}: not a model folder's manifest: {error}") from error
    if hashlib.sha256(graph).hexdigest() != digest:
        raise ExportError(f"{folder}: the graph is not the one that {MANIFEST_FILE} describes; export it again")
    if not arguments:
        raise ExportError(f"{path}: it does not say with which arguments it was made; export it again")
    return Folder(graph, digest, precision, arguments)


def verify(
    model: Folder, request: Request, images: Path, most: int, min_overlap: float | None, report: Callable[[str], None]
) -> Proof:
    """Embed photos by Keras, by the fp32 graph made anew, and by the folder's graph, and compare the answers.

    Args:
        model: What to judge.
        request: How it was made, as its manifest says.
        images: A folder of photos, of which `most` are taken.
        most: At most so many.
        min_overlap: The least overlap with the fp32 variant; None for the precision's gate.
        report: Takes lines.

    Raises:
        ExportError: The network or the photos cannot be had.
    """
    backbone = built(request.source)
    plain = full_precision(request, backbone, report)
    metric = request.metric
    pictures = enough(readable_pictures(images, plain.given, most, report))
    report(f"embedding {len(pictures)} pictures three times ...")
    keras = np.concatenate([reference(backbone, plain.embedder, batch) for batch in pictures.batches(BATCH)])
    full, found = Runner(plain.graph).embed(pictures), Runner(model.graph).embed(pictures)
    rows = [
        ("fp32 by Keras", compare_answers(keras, full, metric), FULL),
        (f"{model.precision} by Keras", compare_answers(keras, found, metric), 0.0),
        (f"{model.precision} by fp32", compare_answers(full, found, metric), _demanded(model.precision, min_overlap)),
    ]
    return Proof(_lines(rows), all((quality.top10_overlap or 0.0) >= demanded for _, quality, demanded in rows))


def _demanded(precision: str, min_overlap: float | None) -> float:
    if min_overlap is not None:
        return min_overlap
    return OVERLAP.get(precision, FULL)


def _lines(rows: Sequence[tuple[str, Quality, float]]) -> list[str]:
    cells = [["graph", "pictures", *QUALITY, "demanded"]]
    for name, quality, demanded in rows:
        cells.append([name, str(quality.images), *quality_cells(quality), f"{demanded:.3f}" if demanded else "-"])
    return aligned(cells)
