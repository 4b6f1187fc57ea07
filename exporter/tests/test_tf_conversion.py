"""What cannot become an ONNX graph is rejected by the layer's name, and the rest comes out without loose ends."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from networks import feature_map

from lookalike_exporter.errors import ExportError
from lookalike_exporter.graph.conversion_errors import layer_of
from lookalike_exporter.graph.tf_conversion import convert_function

import tensorflow as tf  # isort: skip
from tensorflow.core.function.capture.capture_container import FunctionCaptures  # isort: skip


class Computes(keras.layers.Layer):  # type: ignore[misc]
    """A layer that computes a function of TensorFlow's, of the shape of its input."""

    def __init__(self, function: Callable[[Any], Any], name: str) -> None:
        super().__init__(name=name)
        self.function = function

    def call(self, x: Any) -> Any:
        """The function's value."""
        return self.function(x)

    def compute_output_shape(self, shape: Any) -> Any:
        """That of the input."""
        return shape


def with_layer(layer: Any) -> Any:
    """Build a network of a network: [N, 32, 40, 3] float32 through the tiny one, then a layer."""
    inner = feature_map()
    image = keras.Input((32, 40, 3))
    return keras.Model(image, layer(inner(image)))


def convert(network: Any) -> onnx.ModelProto:
    """Convert the network to a graph from `images` to `features`, opset 18."""
    signature = [tf.TensorSpec((None, 32, 40, 3), tf.float32, name="images")]
    function = tf.function(lambda images: {"features": network(images, training=False)}, input_signature=signature)
    return convert_function(function, signature, 18, network)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: tf.math.lgamma(tf.abs(x) + 1), "layer 'strange' uses TensorFlow's Lgamma, which ONNX does not"),
        (lambda x: tf.while_loop(lambda i, _: i < 3, lambda i, a: (i + 1, a * 2.0), [0, x])[1],
         r"layer 'strange' has a branch or a loop \(Loop\)"),
        (lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x * 2, lambda: x),
         r"layer 'strange' has a branch or a loop \(If\)"),
    ],
)  # fmt: skip
def test_layer_that_cannot_be_converted_is_named(function: Callable[[Any], Any], message: str) -> None:
    """An operation without a counterpart, a loop and a branch are rejected with the layer, and with what to do."""
    with pytest.raises(ExportError, match=f"^the network cannot be converted to ONNX: {message}.*--layer"):
        convert(with_layer(Computes(function, "strange")))


@pytest.mark.parametrize(
    "layer",
    [
        lambda: keras.layers.Conv2D(6, 3, groups=3, name="grouped"),
        lambda: keras.layers.Normalization(mean=[0.5] * 6, variance=[2.0] * 6, name="normal"),
        lambda: keras.layers.Activation("gelu", name="gelu"),
        lambda: keras.layers.Activation("hard_silu", name="hard"),
    ],
)
def test_layers_that_keras_and_tf2onnx_disagree_on(layer: Callable[[], Any]) -> None:
    """Grouped convolutions, constants that are tensors and GELU become a graph of one input that computes the same."""
    network = with_layer(layer())
    converted = convert(network)
    assert [each.name for each in converted.graph.input] == ["images"]
    session = onnxruntime.InferenceSession(converted.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(4).normal(0, 3, (2, 32, 40, 3)).astype(np.float32)
    np.testing.assert_allclose(session.run(None, {"images": pixels})[0], network(pixels), rtol=1e-4, atol=1e-5)


def shifted(constant: Any) -> Any:
    """The tiny network of pixels that a constant was added to."""
    image = keras.Input((32, 40, 3))
    return keras.Model(image, feature_map()(image + constant))


def preprocessed(module: Any) -> Any:
    """The tiny network of pixels that a network of Keras preprocesses."""
    image = keras.Input((32, 40, 3))
    return keras.Model(image, feature_map()(module.preprocess_input(image)))


@pytest.mark.parametrize(
    "build",
    [
        lambda: preprocessed(keras.applications.resnet50),
        lambda: preprocessed(keras.applications.vgg16),
        lambda: preprocessed(keras.applications.densenet),
        lambda: shifted(tf.constant([1.0, 20.0, 300.0])),
        # TensorFlow treats tensors of more than 128 elements in another way.
        lambda: shifted(tf.reshape(tf.range(32 * 40 * 3, dtype=tf.float32) / 9, (1, 32, 40, 3))),
        lambda: shifted(np.arange(3, dtype=np.float32)),
        lambda: shifted(tf.Variable([1.0, 20.0, 300.0]).value()),
    ],
)
def test_constants_of_a_network_are_in_the_graph(build: Callable[[], Any]) -> None:
    """A tensor that operations between layers compute with becomes a constant, not an input of the graph."""
    network = build()
    converted = convert(network)
    assert [each.name for each in converted.graph.input] == ["images"]
    session = onnxruntime.InferenceSession(converted.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(4).uniform(0, 255, (2, 32, 40, 3)).astype(np.float32)
    np.testing.assert_allclose(session.run(None, {"images": pixels})[0], network(pixels), rtol=1e-4, atol=1e-3)


def test_settings_of_tensorflow_are_put_back() -> None:
    """A conversion leaves no trace in the process."""
    capture = FunctionCaptures.capture_by_value
    convert(feature_map())
    assert FunctionCaptures.capture_by_value is capture
    assert not tf.config.functions_run_eagerly()


def test_layer_of_an_operation() -> None:
    """The innermost scope decides, numbered or not; an operation of no layer has none."""
    network = with_layer(keras.layers.Activation("relu", name="act_2"))
    assert layer_of(network, "functional_7/tiny_1/second_1/Conv2D") == "second"
    assert layer_of(network, "functional_7/tiny_1/add") == "tiny"
    assert layer_of(network, "functional_7/act_2_1/Relu") == "act_2"
    assert layer_of(network, "somewhere/else") is None
