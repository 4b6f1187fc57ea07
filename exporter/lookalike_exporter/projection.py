"""Principal directions of real embeddings: fewer numbers that keep most of what tells pictures apart.

Principal component analysis by the Gram matrix of the pictures, [N, N], so that 100,352 numbers are no more work than
2,048 (Jolliffe, Principal Component Analysis, 2nd ed., section 3.5).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lookalike_exporter.errors import ExportError

PICTURES = 4096
"""The most pictures that are fitted to: the Gram matrix and the embeddings must fit into memory."""

_COLUMNS = 4096  # numbers of all embeddings that are held in float64 at once

Floats = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class Projection:
    """(x - mean) @ basis, each direction divided by its standard deviation where it is whitened.

    Attributes:
        basis: [dim, components] float32, the directions, scaled where whitened.
        offset: [components] float32, -mean @ basis; zero where not centred.
        centred: Whether the mean was subtracted.
        whitened: Whether directions count the same.
        images: How many pictures it was fitted to.
        energy: The share of the squared length (of the variance, where centred) that is kept, 0 to 1.
    """

    basis: Floats
    offset: Floats
    centred: bool
    whitened: bool
    images: int
    energy: float


def fit(embeddings: Floats, components: int, *, centre: bool, whiten: bool) -> Projection:
    """Find the directions.

    Args:
        embeddings: [N, dim] float32, of real pictures.
        components: How many directions to keep; less than dim.
        centre: Whether to subtract the mean first. On real weights that keeps fewer of the cosine's neighbours.
        whiten: Whether to divide each direction by its standard deviation.

    Raises:
        ExportError: Too few pictures, or too few that differ, or as many components as numbers.
    """
    images, dim = embeddings.shape
    if components >= dim:
        raise ExportError(f"--project {components}: the embeddings have only {dim} numbers; give fewer")
    needed = components + 1 if centre else components
    if images < needed:
        raise ExportError(f"--fit-on: {components} components need {needed} pictures or more, there are {images}")
    mean = embeddings.mean(axis=0, dtype=np.float64) if centre else np.zeros(dim)
    gram = np.zeros((images, images))
    for begin in range(0, dim, _COLUMNS):
        part = embeddings[:, begin : begin + _COLUMNS] - mean[begin : begin + _COLUMNS]
        gram += part @ part.T
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1][:components], vectors[:, ::-1][:, :components]
    if values[-1] <= 1e-9 * values[0]:
        different = int(np.count_nonzero(values > 1e-9 * values[0]))
        raise ExportError(f"--fit-on: the pictures differ in {different} directions only; give fewer than {components}")
    # Rows of the embeddings in the directions: x @ basis = vectors * sqrt(values).
    basis = np.empty((dim, components))
    for begin in range(0, dim, _COLUMNS):
        part = embeddings[:, begin : begin + _COLUMNS] - mean[begin : begin + _COLUMNS]
        basis[begin : begin + _COLUMNS] = part.T @ vectors / np.sqrt(values)
    # Either sign is right; one must be chosen, or the same pictures would give other graphs.
    basis *= np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(components)])
    if whiten:
        basis /= np.sqrt(values / images)
    return Projection(
        basis=basis.astype(np.float32),
        offset=(-mean @ basis).astype(np.float32),
        centred=centre,
        whitened=whiten,
        images=images,
        energy=float(values.sum() / np.trace(gram)),
    )
