"""Compares the ONNX graph with the Keras network it was made from, before anybody can use it.

The reference shares nothing with our wrapping: pixels go through Keras' own `preprocess_input`, the backbone
runs alone, and pooling and normalisation are done again in NumPy with float64.
"""

from typing import Any

import keras
import numpy as np

from lookalike_exporter.backbone import Backbone
from lookalike_exporter.convert import Embedder
from lookalike_exporter.embed import Runner
from lookalike_exporter.errors import ExportError
from lookalike_exporter.manifest import Parity
from lookalike_exporter.photos import Photos

COSINE_MIN = 0.9999
# Length of the difference over length of the reference. float32 rounding leaves about 1e-6; the cosine alone
# would not see a wrong scale, nor much of anything in a network whose embeddings all point the same way.
RELATIVE_MAX = 1e-3

Vectors = np.ndarray[Any, np.dtype[np.float64]]


def check_parity(graph: bytes, backbone: Backbone, embedder: Embedder, photos: Photos) -> Parity:
    """Embeds every photo by Keras and by ONNX Runtime, there one by one and all in one batch.

    Args:
        graph: A serialised ONNX model.
        backbone: The network it was made from.
        embedder: How the network was wrapped.
        photos: [N, height, width, 3] uint8 RGB.

    Returns:
        The figures, over both ways of batching.

    Raises:
        ExportError: ONNX Runtime refuses the graph, an embedding is not finite or all zero, or a photo's two
            embeddings differ: cosine below `COSINE_MIN` or relative difference above `RELATIVE_MAX`.
    """
    expected = reference(backbone, embedder, photos)
    runner = Runner(graph)
    one_by_one = np.concatenate([runner.run(photo[None]) for photo in photos])
    together = runner.run(photos)
    return compare(np.concatenate([expected, expected]), np.concatenate([one_by_one, together]), len(photos))


def reference(backbone: Backbone, embedder: Embedder, photos: Photos) -> Vectors:
    """The embeddings as Keras has them: [N, dim] float64."""
    features = backbone.network.predict(_preprocessed(photos, backbone.preprocess), batch_size=4, verbose=0)
    vectors = np.asarray(features, np.float64)
    if embedder.pooling == "avg":
        vectors = vectors.mean(axis=(1, 2))
    elif embedder.pooling == "max":
        vectors = vectors.max(axis=(1, 2))
    else:
        vectors = vectors.reshape(len(vectors), -1)
    if embedder.normalised:
        vectors = _unit(vectors)
    if embedder.projection is not None:
        vectors = vectors @ embedder.projection.basis.astype(np.float64) + embedder.projection.offset
        if embedder.normalised:
            vectors = _unit(vectors)
    return vectors


def compare(expected: Vectors, found: Any, images: int) -> Parity:
    """The figures of two sets of embeddings, row by row.

    Raises:
        ExportError: They differ by more than float32 rounding can explain, or cannot be compared at all.
    """
    found = np.asarray(found, np.float64)
    if found.shape != expected.shape:
        raise ExportError(f"parity: the graph gives {found.shape}, Keras {expected.shape}")
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        raise ExportError("parity: embeddings are not finite numbers; the network or its weights are damaged")
    lengths = np.linalg.norm(expected, axis=1), np.linalg.norm(found, axis=1)
    if min(lengths[0].min(), lengths[1].min()) == 0.0:
        raise ExportError("parity: embeddings are all zero; the network or its weights are damaged")
    cosines = (expected * found).sum(axis=1) / (lengths[0] * lengths[1])
    relative = (np.linalg.norm(found - expected, axis=1) / lengths[0]).max()
    if cosines.min() < COSINE_MIN or relative > RELATIVE_MAX:
        raise ExportError(
            f"parity: ONNX Runtime and Keras differ: smallest cosine {cosines.min():.6f} "
            f"(at least {COSINE_MIN}), largest relative difference {relative:.2e} (at most {RELATIVE_MAX})"
        )
    return Parity(
        images=images,
        cosine_min=float(min(cosines.min(), 1.0)),
        cosine_median=float(min(np.median(cosines), 1.0)),
        max_abs_diff=float(np.abs(found - expected).max()),
    )


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


def _preprocessed(photos: Photos, mode: str) -> Any:
    """Keras' own `preprocess_input` for the modes it has; the other two are one division, or nothing."""
    pixels = photos.astype(np.float32)
    if mode == "none":
        return pixels
    if mode == "rescale":
        return pixels / np.float32(255)
    return keras.applications.imagenet_utils.preprocess_input(pixels, data_format="channels_last", mode=mode)
