"""Wraps a backbone into one graph from pixels to embedding, and converts it to ONNX."""

from dataclasses import dataclass
from typing import Any

import keras
import onnx
import tensorflow as tf
import tf2onnx

from lookalike_exporter.backbone import Backbone
from lookalike_exporter.canonical import INPUT, OUTPUT, canonical_form
from lookalike_exporter.errors import ExportError, first_line
from lookalike_exporter.preprocess import preprocess

OPSET = 18


@dataclass(frozen=True, slots=True)
class Embedder:
    """A backbone with everything around it, as one Keras model.

    Attributes:
        model: [N, height, width, 3] uint8 RGB -> [N, dim] float32.
        dim: Length of an embedding.
        pooling: `avg` or `max`, or `model` where the network's own output is one vector an image.
        metric: `cosine` or `euclidean`.
    """

    model: Any
    dim: int
    pooling: str
    metric: str

    @property
    def normalised(self) -> bool:
        """Whether embeddings have length 1, as the cosine metric wants them."""
        return self.metric == "cosine"


def wrap(backbone: Backbone, *, pooling: str, metric: str) -> Embedder:
    """Puts preprocessing before a backbone, pooling and (for cosine) L2 normalisation behind it.

    Normalisation is x / max(||x||, 1e-12), as Keras' `UnitNormalization` does it.

    Args:
        backbone: What to wrap.
        pooling: `avg` or `max`, over height and width; for an output [N, dim] there is nothing to pool.
        metric: `cosine` or `euclidean`.

    Raises:
        ExportError: The backbone's output is neither [N, h, w, C] nor [N, dim].
    """
    images = keras.Input((backbone.height, backbone.width, 3), dtype="uint8", name=INPUT)
    features = backbone.network(preprocess(images, backbone.preprocess), training=False)
    shape = tuple(features.shape)
    if len(shape) not in (2, 4) or shape[-1] is None:
        raise ExportError(
            f"{backbone.name}: the output must be a feature map [N, h, w, C] or vectors [N, dim], it is {shape}"
        )
    if len(shape) == 2:
        pooling = "model"
    elif pooling == "avg":
        features = keras.layers.GlobalAveragePooling2D()(features)
    else:
        features = keras.layers.GlobalMaxPooling2D()(features)
    if metric == "cosine":
        features = keras.layers.UnitNormalization(axis=-1)(features)
    return Embedder(keras.Model(images, features), int(shape[-1]), pooling, metric)


def to_onnx(embedder: Embedder, properties: dict[str, str]) -> bytes:
    """Converts an embedder to a self-contained ONNX model of opset `OPSET`.

    Args:
        embedder: What to convert.
        properties: Written into the file's metadata, so that they count for its digest.

    Returns:
        The serialised model: input `images` [N, height, width, 3] uint8, output `embeddings` [N, dim]
        float32.

    Raises:
        ExportError: The network has an operation that cannot be converted.
    """
    signature = [tf.TensorSpec((None, *embedder.model.input_shape[1:]), tf.uint8, name=INPUT)]
    function = tf.function(lambda images: {OUTPUT: embedder.model(images, training=False)}, input_signature=signature)
    try:
        converted, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
        canonical = canonical_form(converted, OPSET, properties)
        onnx.checker.check_model(canonical, full_check=True)
    except Exception as error:  # an operation without a counterpart fails with any class
        raise ExportError(f"the network cannot be converted to ONNX: {first_line(error)}") from error
    serialised: bytes = canonical.SerializeToString(deterministic=True)
    return serialised
