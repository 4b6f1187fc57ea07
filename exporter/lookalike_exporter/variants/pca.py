"""Principal component analysis of real embeddings: fewer dimensions that keep most of what distinguishes images.

By the Gram matrix of the images, [N, N], so that 100,352 dimensions are no more work than 2,048 (Jolliffe, Principal
Component Analysis, 2nd ed., section 3.5).
"""

import numpy as np

from lookalike_exporter.errors import ExportError
from lookalike_exporter.graph.projection import Embeddings, Projection

MAX_IMAGES = 4096
"""The most images that are fitted to: the Gram matrix and the embeddings must fit into memory."""

_COLUMNS = 4096  # dimensions of all embeddings that are held in float64 at once


def fit(embeddings: Embeddings, components: int, *, center: bool, whiten: bool) -> Projection:
    """Fit a projection to the principal directions.

    Args:
        embeddings: [N, dim] float32, of real images.
        components: How many directions to keep; less than dim.
        center: Whether to subtract the mean first. On real weights that keeps fewer of the cosine's neighbors.
        whiten: Whether to divide each direction by its standard deviation.

    Raises:
        ExportError: Too few images, or too few that differ, or as many components as dimensions.
    """
    images, dim = embeddings.shape
    if components >= dim:
        raise ExportError(f"--pca-dim {components}: the embeddings have only {dim} dimensions; choose fewer")
    needed = components + 1 if center else components
    if images < needed:
        raise ExportError(f"--pca-images: {components} components need {needed} images or more, there are {images}")
    mean = embeddings.mean(axis=0, dtype=np.float64) if center else np.zeros(dim)
    gram = np.zeros((images, images))
    for begin in range(0, dim, _COLUMNS):
        part = embeddings[:, begin : begin + _COLUMNS] - mean[begin : begin + _COLUMNS]
        gram += part @ part.T
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1][:components], vectors[:, ::-1][:, :components]
    if values[-1] <= 1e-9 * values[0]:
        different = int(np.count_nonzero(values > 1e-9 * values[0]))
        raise ExportError(
            f"--pca-images: the images differ in {different} directions only; choose a --pca-dim below {components}"
        )
    # Rows of the embeddings in the directions: x @ basis = vectors * sqrt(values).
    basis = np.empty((dim, components))
    for begin in range(0, dim, _COLUMNS):
        part = embeddings[:, begin : begin + _COLUMNS] - mean[begin : begin + _COLUMNS]
        basis[begin : begin + _COLUMNS] = part.T @ vectors / np.sqrt(values)
    # Either sign is right; one must be chosen, or the same images would give other graphs.
    basis *= np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(components)])
    if whiten:
        basis /= np.sqrt(values / images)
    return Projection(
        basis=basis.astype(np.float32),
        offset=(-mean @ basis).astype(np.float32),
        centered=center,
        whitened=whiten,
        images=images,
        energy=float(values.sum() / np.trace(gram)),
    )
