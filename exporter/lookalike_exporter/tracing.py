"""Converts a Keras model's TensorFlow function to ONNX, around four places where Keras and tf2onnx do not meet.

tf2onnx goes on without an operation it does not know and says so in its log alone: here that is an error that
names the layer.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
from onnx import ModelProto
from tf2onnx.handler import tf_op
from tf2onnx.optimizer.transpose_optimizer import TransposeOptimizer

from lookalike_exporter.blame import blamed, complaints, refuse
from lookalike_exporter.errors import ExportError, first_line


@tf_op("Erfc")
class _Erfc:
    """1 - erf(x): TensorFlow has it in GELU, so in every ConvNeXt, and tf2onnx does not know it."""

    @classmethod
    def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Replaces one node; the name is that of the opset from which ONNX has Erf."""
        shapes, dtypes = node.output_shapes, node.output_dtypes
        ctx.remove_node(node.name)
        erf = ctx.make_node("Erf", node.input, shapes=shapes, dtypes=dtypes)
        one = ctx.make_const(f"{node.name}_one", np.array(1, tf2onnx.utils.map_onnx_to_numpy_type(dtypes[0])))
        ctx.make_node(
            "Sub", [one.output[0], erf.output[0]], name=node.name, outputs=node.output, shapes=shapes, dtypes=dtypes
        )


_merge_bias = TransposeOptimizer._add_handler


def _add_handler(optimizer: Any, transpose: Any, node: Any) -> Any:
    """tf2onnx takes an addend behind a convolution for its bias, and fails where that is one number.

    MobileNetV3 has such, in its hard sigmoid; the failure would leave all transposes in the graph.
    """
    addend = node.inputs[1]
    if addend.is_const() and addend.get_tensor_value(as_list=False).ndim == 0:
        return optimizer._handle_node_having_branches(transpose, node)
    return _merge_bias(optimizer, transpose, node)


TransposeOptimizer._add_handler = _add_handler


def convert_function(function: Any, signature: Sequence[Any], opset: int, network: Any) -> ModelProto:
    """Converts a TensorFlow function.

    Args:
        function: A `tf.function`.
        signature: Its inputs, as `tf.TensorSpec`.
        opset: The ONNX operator set.
        network: The Keras model that the function calls.

    Raises:
        ExportError: An operation has no counterpart in ONNX, or is a branch or a loop; the layer is named.
    """
    _fix_constants(network)
    converted: ModelProto
    with complaints() as failed, _inlined():
        try:
            converted, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=opset)
        except Exception as error:  # what TensorFlow or tf2onnx cannot do fails with any class
            where = f"{blamed(network, failed[0].operation)}: " if failed else ""
            raise ExportError(f"the network cannot be converted to ONNX: {where}{first_line(error)}") from error
    refuse(converted, failed, network)
    return converted


def _fix_constants(network: Any) -> None:
    """Makes a Normalization's mean and variance constants of the graph: as tensors they become inputs of it."""
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.Normalization) and layer.mean is not None:
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)


@contextmanager
def _inlined() -> Iterator[None]:
    """Lets functions inside the traced one become part of it: Keras' grouped convolution is one, and not seen into."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
