"""Wrap a backbone into one graph from pixels to embedding, and convert it to ONNX."""

from dataclasses import dataclass
from typing import Any

import keras
import onnx
import tensorflow as tf

from lookalike_exporter.errors import ExportError, first_line
from lookalike_exporter.graph.canonical import INPUT, OUTPUT, serialize
from lookalike_exporter.graph.preprocess import preprocess
from lookalike_exporter.graph.projection import Projection
from lookalike_exporter.graph.tf_conversion import convert_function
from lookalike_exporter.networks.backbone import Backbone
from lookalike_exporter.specs import InputSpec, OutputSpec, digest_properties

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
        output: What comes out of it.
        projection: To fewer dimensions, or None.
    """

    model: Any
    output: OutputSpec
    projection: Projection | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingGraph:
    """A serialized ONNX graph, and the embedder it was converted from."""

    onnx: bytes
    embedder: Embedder


def build_graph(
    backbone: Backbone, images: InputSpec, *, pooling: str, metric: str, projection: Projection | None = None
) -> EmbeddingGraph:
    """Wrap a backbone and convert it; what the server must know counts for the graph's digest.

    Raises:
        ExportError: As `wrap` and `to_onnx`.
    """
    embedder = wrap(backbone, pooling=pooling, metric=metric, projection=projection)
    properties = digest_properties(images, embedder.output, backbone.preprocess)
    return EmbeddingGraph(to_onnx(embedder, properties), embedder)


def wrap(backbone: Backbone, *, pooling: str, metric: str, projection: Projection | None = None) -> Embedder:
    """Put preprocessing before a backbone; pooling, a projection and (for cosine) L2 normalization behind it.

    Normalization is x / max(||x||, 1e-12), as Keras' `UnitNormalization` does it; with a projection it is done before
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
    takes = keras.backend.standardize_dtype(backbone.network.inputs[0].dtype)
    pixels = preprocess(images, backbone.preprocess) if takes == "float32" else keras.ops.cast(images, takes)
    features = backbone.network(pixels, training=False)
    shape = tuple(features.shape)
    if len(shape) not in (2, 4) or None in shape[1:]:
        raise ExportError(
            f"{backbone.name}: the output must be a feature map [N, h, w, C] or vectors [N, dim], it is {shape}"
        )
    if len(shape) == 2:
        pooling = "model"
    else:
        features = _POOLING[pooling]()(features)
    normalized = metric == "cosine"
    if normalized:
        features = keras.layers.UnitNormalization(axis=-1)(features)
    if projection is not None:
        features = _project(features, projection)
        if normalized:
            features = keras.layers.UnitNormalization(axis=-1)(features)
    output = OutputSpec(int(features.shape[-1]), pooling, metric, normalized)
    return Embedder(keras.Model(images, features), output, projection)


def _project(features: Any, projection: Projection) -> Any:
    dense = keras.layers.Dense(projection.basis.shape[1], use_bias=projection.centered)
    projected = dense(features)
    dense.set_weights([projection.basis, projection.offset] if projection.centered else [projection.basis])
    return projected


def to_onnx(embedder: Embedder, properties: dict[str, str]) -> bytes:
    """Convert an embedder to a self-contained ONNX model of opset `OPSET`.

    Args:
        embedder: What to convert.
        properties: Written into the file's metadata, so that they count for its digest.

    Returns:
        The serialized model: input `images` [N, height, width, 3] uint8, output `embeddings` [N, dim]
        float32.

    Raises:
        ExportError: The network has an operation that cannot be converted; the layer is named.
    """
    signature = [tf.TensorSpec((None, *embedder.model.input_shape[1:]), tf.uint8, name=INPUT)]
    function = tf.function(lambda images: {OUTPUT: embedder.model(images, training=False)}, input_signature=signature)
    converted = convert_function(function, signature, OPSET, embedder.model)
    try:
        return serialize(converted, OPSET, properties)
    except onnx.shape_inference.InferenceError:  # see `patched_tf2onnx`
        converted = convert_function(function, signature, OPSET, embedder.model, move_transposes=False)
    except Exception as error:  # the checker's errors share no base class but Exception
        raise ExportError(f"the network cannot be converted to ONNX: {first_line(error)}") from error
    try:
        return serialize(converted, OPSET, properties)
    except Exception as error:  # as above
        raise ExportError(f"the network cannot be converted to ONNX: {first_line(error)}") from error
