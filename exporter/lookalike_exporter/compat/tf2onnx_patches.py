"""tf2onnx 1.17 with TensorFlow 2.21: an operation and constants it lacks, an optimizer that fails, skipped functions.

`exporter/requirements.lock` holds the versions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
import tf2onnx
from tensorflow.core.function.capture.capture_container import FunctionCaptures
from tf2onnx.handler import tf_op
from tf2onnx.optimizer.transpose_optimizer import TransposeOptimizer


@tf_op("Erfc")
class _Erfc:
    """1 - erf(x): TensorFlow has it in GELU, so in every ConvNeXt, and tf2onnx does not know it."""

    @classmethod
    def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Replace one node; the name is that of the opset from which ONNX has Erf."""
        shapes, dtypes = node.output_shapes, node.output_dtypes
        ctx.remove_node(node.name)
        erf = ctx.make_node("Erf", node.input, shapes=shapes, dtypes=dtypes)
        one = ctx.make_const(f"{node.name}_one", np.array(1, tf2onnx.utils.map_onnx_to_numpy_type(dtypes[0])))
        ctx.make_node(
            "Sub", [one.output[0], erf.output[0]], name=node.name, outputs=node.output, shapes=shapes, dtypes=dtypes
        )


@contextmanager
def patched_tf2onnx(*, move_transposes: bool = True) -> Iterator[None]:
    """Convert with the patches in place, and restore both libraries afterwards.

    Args:
        move_transposes: Whether tf2onnx merges the transposes around convolutions. Where a map has a height of 1 and
            another width (ConvNeXt at 32 x 64 pixels ends in 1 x 2), its result may be a graph of which the shapes do
            not fit.

    tf2onnx takes an addend behind a convolution for its bias, and fails where that is a scalar: MobileNetV3 has such in
    its hard sigmoid, and the failure would leave all transposes in the graph. TensorFlow runs functions eagerly, so
    that those inside the traced one become part of it: Keras' grouped convolution is one, and tf2onnx skips it.
    A tensor from outside the traced function, such as the mean that ResNet50's `preprocess_input` subtracts, would
    become an input of it, and is made a constant.
    """
    merge_bias, eager = TransposeOptimizer._add_handler, tf.config.functions_run_eagerly()
    capture_tensor = FunctionCaptures.capture_by_value

    def add_handler(optimizer: Any, transpose: Any, node: Any) -> Any:
        addend = node.inputs[1]
        if addend.is_const() and addend.get_tensor_value(as_list=False).ndim == 0:
            return optimizer._handle_node_having_branches(transpose, node)
        return merge_bias(optimizer, transpose, node)

    def capture(captures: Any, graph: Any, tensor: Any, name: str | None = None) -> Any:
        if not hasattr(tensor, "numpy") or tensor.dtype in (tf.resource, tf.variant):
            return capture_tensor(captures, graph, tensor, name)
        with graph.as_default(), tf.control_dependencies(None):
            return tf.constant(tensor.numpy())

    optimizers = tf2onnx.optimizer._optimizers.copy()
    if not move_transposes:
        del tf2onnx.optimizer._optimizers["optimize_transpose"]
    TransposeOptimizer._add_handler = add_handler
    FunctionCaptures.capture_by_value = capture
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        TransposeOptimizer._add_handler = merge_bias
        tf2onnx.optimizer._optimizers.clear()
        tf2onnx.optimizer._optimizers.update(optimizers)
        FunctionCaptures.capture_by_value = capture_tensor
        tf.config.run_functions_eagerly(eager)
