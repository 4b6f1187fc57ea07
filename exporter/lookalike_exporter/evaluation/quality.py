"""How many of a reference model's search results another model keeps, over the same images."""

from dataclasses import dataclass
from typing import Any

import numpy as np

NEIGHBORS = 10
"""Of each image, that are compared."""

_CHUNK = 256  # images whose distances to all others are held at once

Vectors = np.ndarray[Any, np.dtype[Any]]
Order = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Quality:
    """Of embeddings against a reference's, over `images` images.

    Attributes:
        images: How many.
        cosine_min: The smallest cosine of an image's two embeddings; None where they differ in length, as the
            other two.
        cosine_p1: The first percentile of the cosines.
        cosine_median: The median.
        recall_at_10: The mean share of an image's ten nearest by the reference that are among its ten nearest; None
            over generated images, whose neighbors mean nothing, as the next.
        recall_at_1: The share of images whose nearest is the reference's.
    """

    images: int
    cosine_min: float | None
    cosine_p1: float | None
    cosine_median: float | None
    recall_at_10: float | None
    recall_at_1: float | None


def measure_quality(reference: Vectors, embeddings: Vectors, metric: str, *, real: bool = True) -> Quality:
    """Measure embeddings against a reference's.

    Args:
        reference: [N, dim] float, N > `NEIGHBORS`.
        embeddings: [N, dim'] float, of the same images in the same order.
        metric: `cosine` or `euclidean`, by which both are searched.
        real: Whether the images are real, not generated.
    """
    cosines = _cosines(reference, embeddings) if reference.shape == embeddings.shape else None
    recall, recall_at_1 = _recalls(reference, embeddings, metric) if real else (None, None)
    return Quality(
        images=len(reference),
        cosine_min=None if cosines is None else float(cosines.min()),
        cosine_p1=None if cosines is None else float(np.percentile(cosines, 1)),
        cosine_median=None if cosines is None else float(np.median(cosines)),
        recall_at_10=recall,
        recall_at_1=recall_at_1,
    )


def nearest(vectors: Vectors, metric: str, count: int) -> Order:
    """Find for each row the `count` other rows nearest to it, nearest first, ties in order of row.

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
    order = []
    for begin in range(0, len(rows), _CHUNK):
        products = (rows[begin : begin + _CHUNK] @ rows.T).astype(np.float64)
        distances = squares[None, :] - 2 * products
        distances[np.arange(len(distances)), begin + np.arange(len(distances))] = np.inf
        order.append(np.argsort(distances, axis=1, kind="stable")[:, :count])
    return np.concatenate(order)


def _recalls(reference: Vectors, embeddings: Vectors, metric: str) -> tuple[float, float]:
    expected, actual = nearest(reference, metric, NEIGHBORS), nearest(embeddings, metric, NEIGHBORS)
    shared = [len(set(a) & set(b)) for a, b in zip(expected.tolist(), actual.tolist(), strict=True)]
    return float(np.mean(shared)) / NEIGHBORS, float(np.mean(expected[:, 0] == actual[:, 0]))


def _cosines(reference: Vectors, embeddings: Vectors) -> Vectors:
    a, b = np.asarray(reference, np.float64), np.asarray(embeddings, np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: Vectors = np.minimum((a * b).sum(axis=1) / np.maximum(lengths, 1e-300), 1.0)
    return cosines
