"""How much of one model's answers another one gives: over the same pictures, each asked for the others."""

from dataclasses import dataclass
from typing import Any

import numpy as np

TOP = 10
"""Neighbours that are compared."""

_CHUNK = 256  # pictures whose distances to all others are held at once

Vectors = np.ndarray[Any, np.dtype[Any]]
Order = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Quality:
    """Of embeddings against a reference's, over `images` pictures.

    Attributes:
        images: How many.
        cosine_min: The smallest cosine of a picture's two embeddings; None where they differ in length, as the
            other two.
        cosine_p1: The cosine that one picture in a hundred is under.
        cosine_median: The median.
        top10_overlap: The mean share of a picture's ten nearest that are among its ten nearest by the reference; None
            over generated pictures, whose neighbours mean nothing, as the next.
        same_nearest: The share of pictures whose nearest is the reference's.
    """

    images: int
    cosine_min: float | None
    cosine_p1: float | None
    cosine_median: float | None
    top10_overlap: float | None
    same_nearest: float | None


def compare_answers(reference: Vectors, found: Vectors, metric: str, *, real: bool = True) -> Quality:
    """Judge embeddings.

    Args:
        reference: [N, dim] float, N > `TOP`.
        found: [N, dim'] float, of the same pictures in the same order.
        metric: `cosine` or `euclidean`, by which both are searched.
        real: Whether they are of photos.
    """
    cosines = _cosines(reference, found) if reference.shape == found.shape else None
    overlap, same = _shared(reference, found, metric) if real else (None, None)
    return Quality(
        images=len(reference),
        cosine_min=None if cosines is None else float(cosines.min()),
        cosine_p1=None if cosines is None else float(np.percentile(cosines, 1)),
        cosine_median=None if cosines is None else float(np.median(cosines)),
        top10_overlap=overlap,
        same_nearest=same,
    )


def _shared(reference: Vectors, found: Vectors, metric: str) -> tuple[float, float]:
    right, given = nearest(reference, metric, TOP), nearest(found, metric, TOP)
    shared = [len(set(a) & set(b)) for a, b in zip(right.tolist(), given.tolist(), strict=True)]
    return float(np.mean(shared)) / TOP, float(np.mean(right[:, 0] == given[:, 0]))


def nearest(vectors: Vectors, metric: str, count: int) -> Order:
    """For each row the `count` other rows nearest to it, nearest first, equally near by their number.

    Args:
        vectors: [N, dim] float.
        metric: `cosine` or `euclidean`.
        count: Less than N.

    Returns:
        [N, count].
    """
    rows = np.asarray(vectors, np.float32)
    if metric == "cosine":
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
    # Of long vectors float32 sums would lose the small differences that decide.
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    found = []
    for begin in range(0, len(rows), _CHUNK):
        products = (rows[begin : begin + _CHUNK] @ rows.T).astype(np.float64)
        distances = squares[None, :] - 2 * products
        distances[np.arange(len(distances)), begin + np.arange(len(distances))] = np.inf
        found.append(np.argsort(distances, axis=1, kind="stable")[:, :count])
    return np.concatenate(found)


def _cosines(reference: Vectors, found: Vectors) -> Vectors:
    a, b = np.asarray(reference, np.float64), np.asarray(found, np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: Vectors = np.minimum((a * b).sum(axis=1) / np.maximum(lengths, 1e-300), 1.0)
    return cosines
