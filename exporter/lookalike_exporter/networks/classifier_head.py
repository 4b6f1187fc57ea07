"""Recognize a classifier by its last layers, and find the layer that a network is cut at for embeddings."""

from collections.abc import Generator
from typing import Any

import keras

from lookalike_exporter.compat.keras2_operations import Keras2Operation
from lookalike_exporter.compat.keras_patches import to_snake_case

_PROBABILITIES = {"softmax", "log_softmax", "sigmoid"}
# Behind them a class stays what it is.
_RESHAPING = (keras.layers.Reshape, keras.layers.Flatten, keras.layers.Identity)
_DROPPING = (keras.layers.Dropout, keras.layers.GaussianDropout, keras.layers.AlphaDropout, keras.layers.Identity)
_CLASSIFYING = (keras.layers.Dense, keras.layers.Conv2D)
# Of vectors these belong to a head: they were trained to separate the classes.
_HEAD = (
    keras.layers.Dense,
    keras.layers.BatchNormalization,
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.Softmax,
    *_DROPPING,
)

Chain = Generator[tuple[str, Any], None, bool]


def is_classifier(network: Any, loss: str) -> bool:
    """Return whether a network ends in the probabilities of classes, or in what they are computed of.

    Args:
        network: A Keras model of one input and one output.
        loss: What it was trained with, as JSON: a cross-entropy makes a last Dense one of classes.
    """
    last = next((layer for _, layer in _chain(network) if not isinstance(layer, _RESHAPING)), None)
    return _function(last) in _PROBABILITIES or (
        isinstance(last, keras.layers.Dense) and "crossentropy" in loss.lower().replace("_", "")
    )


def layer_below_head(network: Any) -> str | None:
    """Name the last layer that is not of a classifier's head, as `--layer` takes it; None where there is none.

    That is where the networks known by name end: at the pooled features, or at the map that they are pooled from.
    """
    headed = False
    for name, layer in _chain(network):
        if not headed:
            headed = isinstance(layer, _CLASSIFYING)
        elif isinstance(layer, (keras.layers.Flatten, *_DROPPING)):
            continue
        elif not isinstance(layer, _HEAD) or len(layer.output.shape) != 2:
            return name
    return None


def _chain(network: Any, outer: str = "") -> Chain:
    """Yield the layers from the output to the first that has not one input, by name, those of nested models as A/B.

    The last layer of a nested model has the name of the model, whose output is the same. Returns whether the chain
    reached the input.
    """
    tensor, name = network.outputs[0], outer
    while True:
        layer, call, _ = tensor._keras_history
        if isinstance(layer, keras.layers.InputLayer):
            return True
        name = name or f"{outer}/{layer.name}".lstrip("/")
        if isinstance(layer, keras.Model):
            if not (yield from _chain(layer, name)):
                return False
        else:
            yield name, layer
        name = ""
        inputs = layer._inbound_nodes[call].input_tensors
        if len(inputs) != 1:
            return False
        tensor = inputs[0]


def _function(layer: Any) -> str:
    """Return the name of the function that a layer or operation ends in."""
    if isinstance(layer, Keras2Operation):
        return layer.function.rpartition(".")[2]
    # Also operations between layers are of classes such as Softmax.
    return str(getattr(getattr(layer, "activation", None), "__name__", to_snake_case(type(layer).__name__)))
