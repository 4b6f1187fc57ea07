"""Wraps a backbone into one graph from pixels to embedding, and converts it to ONNX."""

from dataclasses import dataclass
from typing import Any

import keras
import onnx
import tensorflow as tf

from lookalike_exporter.backbone import Backbone
from lookalike_exporter.canonical import INPUT, OUTPUT, canonical_form
from lookalike_exporter.errors import ExportError, first_line
from lookalike_exporter.preprocess import preprocess
from lookalike_exporter.projection import Projection
from lookalike_exporter.tracing import convert_function

OPSET = 18

_POOLING = {
    "avg": keras.layers.GlobalAveragePooling2D,
    "max": keras.layers.GlobalMaxPooling2D,
    "flatten": keras.layers.Flatten,
}


@dataclass(frozen=True, slots=True)
class Embedder:
    """A backbone with everything around it, as one Keras model.

    Attributes:
        model: [N, height, width, 3] uint8 RGB -> [N, dim] float32.
        dim: Length of an embedding.
        pooling: `avg`, `max` or `flatten`, or `model` where the network's own output is one vector an image.
        metric: `cosine` or `euclidean`.
        projection: Onto fewer numbers, or None.
    """

    model: Any
    dim: int
    pooling: str
    metric: str
    projection: Projection | None = None

    @property
    def normalised(self) -> bool:
        """Whether embeddings have length 1, as the cosine metric wants them."""
        return self.metric == "cosine"


def wrap(backbone: Backbone, *, pooling: str, metric: str, projection: Projection | None = None) -> Embedder:
    """Puts preprocessing before a backbone; pooling, a projection and (for cosine) L2 normalisation behind it.

    Normalisation is x / max(||x||, 1e-12), as Keras' `UnitNormalization` does it; with a projection it is done before
    and after it.

    Args:
        backbone: What to wrap.
        pooling: `avg` or `max` over height and width, or `flatten`: all of the feature map, in the order height, width,
            channels as Keras' `Flatten` has it. For an output [N, dim] there is nothing to pool.
        metric: `cosine` or `euclidean`.
        projection: Fitted to the embeddings that come without one.

    Raises:
        ExportError: The backbone's output is neither [N, h, w, C] nor [N, dim].
    """
    images = keras.Input((backbone.height, backbone.width, 3), dtype="uint8", name=INPUT)
    features = backbone.network(preprocess(images, backbone.preprocess), training=False)
    shape = tuple(features.shape)
    if len(shape) not in (2, 4) or None in shape[1:]:
        raise ExportError(
            f"{backbone.name}: the output must be a feature map [N, h, w, C] or vectors [N, dim], it is {shape}"
        )
    if len(shape) == 2:
        pooling = "model"
    else:
        features = _POOLING[pooling]()(features)
    if metric == "cosine":
        features = keras.layers.UnitNormalization(axis=-1)(features)
    if projection is not None:
        features = _projected(features, projection)
        if metric == "cosine":
            features = keras.layers.UnitNormalization(axis=-1)(features)
    return Embedder(keras.Model(images, features), int(features.shape[-1]), pooling, metric, projection)


def _projected(features: Any, projection: Projection) -> Any:
    dense = keras.layers.Dense(projection.basis.shape[1], use_bias=projection.centred)
    projected = dense(features)
    dense.set_weights([projection.basis, projection.offset] if projection.centred else [projection.basis])
    return projected


def to_onnx(embedder: Embedder, properties: dict[str, str]) -> bytes:
    """Converts an embedder to a self-contained ONNX model of opset `OPSET`.

    Args:
        embedder: What to convert.
        properties: Written into the file's metadata, so that they count for its digest.

    Returns:
        The serialised model: input `images` [N, height, width, 3] uint8, output `embeddings` [N, dim]
        float32.

    Raises:
        ExportError: The network has an operation that cannot be converted; the layer is named.
    """
    signature = [tf.TensorSpec((None, *embedder.model.input_shape[1:]), tf.uint8, name=INPUT)]
    function = tf.function(lambda images: {OUTPUT: embedder.model(images, training=False)}, input_signature=signature)
    converted = convert_function(function, signature, OPSET, embedder.model)
    try:
        canonical = canonical_form(converted, OPSET, properties)
        onnx.checker.check_model(canonical, full_check=True)
    except Exception as error:  # the checker's errors share no base class but Exception
        raise ExportError(f"the network cannot be converted to ONNX: {first_line(error)}") from error
    serialised: bytes = canonical.SerializeToString(deterministic=True)
    return serialised
