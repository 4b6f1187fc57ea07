"""Compare the ONNX graph with the Keras network it was made from.

The reference shares nothing with our wrapping: pixels go through Keras' own `preprocess_input`, the backbone
runs alone, and pooling and normalization are computed in NumPy with float64.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from lookalike_exporter.errors import ExportError, first_line
from lookalike_exporter.graph.convert import Embedder
from lookalike_exporter.graph.runner import Runner
from lookalike_exporter.images import Pixels
from lookalike_exporter.networks.backbone import Backbone

COSINE_MIN = 0.9999
# Length of the difference over length of the reference. float32 rounding leaves about 1e-6; the cosine alone
# would not see a wrong scale, nor much of anything in a network whose embeddings all point the same way.
RELATIVE_MAX = 1e-3

Vectors = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class ParityBounds:
    """How far embeddings of one digest may differ when another runtime or precision computes them.

    Attributes:
        min_cosine: The least cosine of an image's embedding with that of ONNX Runtime in the graph's own precision.
        min_overlap: The least mean share of an image's nearest neighbors that are the same, among the images that
            the bounds are checked on.
    """

    min_cosine: float
    min_overlap: float


PARITY_BOUNDS = ParityBounds(min_cosine=0.9995, min_overlap=0.95)
"""Embeddings within these bounds of ONNX Runtime's may share a catalog; outside them they may not: the server checks
at start-up."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Agreement with Keras over `images` images; `max_abs_diff` in the units of an embedding's elements."""

    images: int
    cosine_min: float
    cosine_median: float
    max_abs_diff: float


def check_parity(graph: bytes, backbone: Backbone, embedder: Embedder, images: Pixels) -> Parity:
    """Embed every image by Keras and by ONNX Runtime, there one by one and all in one batch.

    Args:
        graph: A serialized ONNX model.
        backbone: The network it was made from.
        embedder: How the network was wrapped.
        images: [N, height, width, 3] uint8 RGB.

    Returns:
        The agreement, over both ways of batching.

    Raises:
        ExportError: ONNX Runtime rejects the graph, an embedding is not finite or all zeros, or an image's two
            embeddings differ: cosine below `COSINE_MIN` or relative difference above `RELATIVE_MAX`.
    """
    expected = embed_by_keras(backbone, embedder, images)
    runner = Runner(graph)
    one_by_one = np.concatenate([runner.run(image[None]) for image in images])
    together = runner.run(images)
    return compare_embeddings(np.concatenate([expected, expected]), np.concatenate([one_by_one, together]), len(images))


def embed_by_keras(backbone: Backbone, embedder: Embedder, images: Pixels) -> Vectors:
    """Embed by Keras and NumPy alone: [N, dim] float64.

    Raises:
        ExportError: TensorFlow cannot run the network here.
    """
    pixels = _preprocess(images, backbone.preprocess)
    try:
        features = backbone.network.predict(pixels, batch_size=4, verbose=0)
    except Exception as error:  # TensorFlow's errors share no base class but Exception
        raise ExportError(f"parity: TensorFlow cannot run the network here: {first_line(error)}") from error
    vectors = np.asarray(features, np.float64)
    if embedder.output.pooling == "avg":
        vectors = vectors.mean(axis=(1, 2))
    elif embedder.output.pooling == "max":
        vectors = vectors.max(axis=(1, 2))
    else:
        vectors = vectors.reshape(len(vectors), -1)
    if embedder.output.normalized:
        vectors = _unit(vectors)
    if embedder.projection is not None:
        vectors = vectors @ embedder.projection.basis.astype(np.float64) + embedder.projection.offset
        if embedder.output.normalized:
            vectors = _unit(vectors)
    return vectors


def compare_embeddings(expected: Vectors, actual: Any, images: int) -> Parity:
    """Compare two sets of embeddings row by row.

    Raises:
        ExportError: They differ by more than float32 rounding can explain, or cannot be compared at all.
    """
    actual = np.asarray(actual, np.float64)
    if actual.shape != expected.shape:
        raise ExportError(f"parity: the graph gives {actual.shape}, Keras {expected.shape}")
    if not (np.isfinite(actual).all() and np.isfinite(expected).all()):
        raise ExportError("parity: embeddings are not finite; the network or its weights are damaged")
    lengths = np.linalg.norm(expected, axis=1), np.linalg.norm(actual, axis=1)
    if min(lengths[0].min(), lengths[1].min()) == 0.0:
        raise ExportError("parity: embeddings are all zeros; the network or its weights are damaged")
    cosines = (expected * actual).sum(axis=1) / (lengths[0] * lengths[1])
    relative = (np.linalg.norm(actual - expected, axis=1) / lengths[0]).max()
    if cosines.min() < COSINE_MIN or relative > RELATIVE_MAX:
        raise ExportError(
            f"parity: ONNX Runtime and Keras differ: smallest cosine {cosines.min():.6f} "
            f"(at least {COSINE_MIN}), largest relative difference {relative:.2e} (at most {RELATIVE_MAX})"
        )
    return Parity(
        images=images,
        cosine_min=float(min(cosines.min(), 1.0)),
        cosine_median=float(min(np.median(cosines), 1.0)),
        max_abs_diff=float(np.abs(actual - expected).max()),
    )


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


def _preprocess(images: Pixels, mode: str) -> Any:
    """Apply Keras' own `preprocess_input` for the modes it has; the other two are one division, or nothing."""
    pixels = images.astype(np.float32)
    if mode == "none":
        return pixels
    if mode == "rescale":
        return pixels / np.float32(255)
    return keras.applications.imagenet_utils.preprocess_input(pixels, data_format="channels_last", mode=mode)
