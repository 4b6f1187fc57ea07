"""Convert a Keras model's TensorFlow function to ONNX.

tf2onnx goes on without an operation it does not know and says so in its log alone: here that is an error that
names the layer.
"""

from collections.abc import Sequence
from typing import Any

import tf2onnx
from onnx import ModelProto

from lookalike_exporter.compat.tf2onnx_patches import patched_tf2onnx
from lookalike_exporter.errors import ExportError, first_line
from lookalike_exporter.graph.conversion_errors import check_converted, collect_failures, describe_layer


def convert_function(
    function: Any, signature: Sequence[Any], opset: int, network: Any, *, move_transposes: bool = True
) -> ModelProto:
    """Convert a TensorFlow function.

    Args:
        function: A `tf.function`.
        signature: Its inputs, as `tf.TensorSpec`.
        opset: The ONNX operator set.
        network: The Keras model that the function calls.
        move_transposes: Whether those around convolutions are merged; graphs without are right, and slower.

    Raises:
        ExportError: An operation has no counterpart in ONNX, or is a branch or a loop; the layer is named.
    """
    converted: ModelProto
    with collect_failures() as failures, patched_tf2onnx(move_transposes=move_transposes):
        try:
            converted, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=opset)
        except Exception as error:  # what TensorFlow or tf2onnx cannot do fails with any class
            where = f"{describe_layer(network, failures[0].operation)}: " if failures else ""
            raise ExportError(f"the network cannot be converted to ONNX: {where}{first_line(error)}") from error
    check_converted(converted, failures, network)
    return converted
