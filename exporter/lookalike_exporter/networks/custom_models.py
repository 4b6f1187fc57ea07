"""Load a caller's own Keras model, and name the layer where it cannot be exported."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from lookalike_exporter.compat.keras2 import load_keras2
from lookalike_exporter.compat.keras_patches import UNLISTED_LAYERS
from lookalike_exporter.errors import ExportError
from lookalike_exporter.networks.model_description import (
    ModelDescription,
    describe_unloadable,
    innermost,
    read_description,
)
from lookalike_exporter.request import Size

# The ones that TensorFlow does not compute with channels first on a CPU.
_CHANNELS_LAST_ONLY = ("Conv", "DepthwiseConv", "SeparableConv", "MaxPooling", "AveragePooling")


@dataclass(frozen=True, slots=True)
class LoadedNetwork:
    """A caller's model.

    Attributes:
        network: [N, height, width, 3] float32 (or integers) -> any one tensor.
        size: Height and width of the input.
        loss: What it was trained with, as JSON; empty where it is not known, or the model was cut.
    """

    network: Any
    size: Size
    loss: str


def load_network(path: Path, input_size: Size | None, layer: str | None) -> LoadedNetwork:
    """Load a model file; code inside it is not run.

    Args:
        path: A `.keras` or `.h5`.
        input_size: Height and width in pixels, for a model that leaves them open; None for the model's own.
        layer: The layer whose output is the result, of a nested model as MODEL/LAYER; None for the model's own output.

    Raises:
        ExportError: The file is missing or damaged, a layer cannot be loaded or not be computed on a CPU, or the
            model is not one image in, one tensor out, computed in float32.
    """
    description = read_description(path)
    network = _load(path, description)
    if not getattr(network, "inputs", None):
        raise ExportError(
            f"{path}: the model has no input shape: give it a keras.Input((height, width, 3)) and save it again"
        )
    if layer is not None:
        network = _cut(network, path, layer)
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ExportError(
            f"{path}: the model must have one input and one output, "
            f"it has {len(network.inputs)} and {len(network.outputs)}"
            + ("; --layer NAME picks one layer's output" if len(network.inputs) == 1 else "")
        )
    _check_dtypes(network, path)
    _check_channels(network, path)
    loss = description.loss if layer is None else ""
    return LoadedNetwork(network, _input_size(network, path, input_size), loss)


def _load(path: Path, description: ModelDescription) -> Any:
    if description.keras < "3":
        try:
            return load_keras2(path, description.config)
        except Exception as error:  # what Keras 3 lacks fails in it with any class
            fault = describe_unloadable(description) or innermost(error)
            raise ExportError(
                f"{path}: saved by Keras {description.keras}: {fault}; re-save like this: build the model with "
                f"Keras 3 by the code that made it, model.load_weights({path.name!r}), "
                f"model.save({path.stem + '-keras3.keras'!r})"
            ) from error
    try:
        return keras.models.load_model(path, custom_objects=UNLISTED_LAYERS, compile=False, safe_mode=True)
    except Exception as error:  # a damaged or foreign file fails in Keras with any class
        reason = describe_unloadable(description)
        if reason is None:
            reason = f"cannot load it as a Keras model: {innermost(error)}"
            if path.suffix == ".h5":
                reason += " (operations that are not layers are lost in an .h5; a .keras keeps them)"
        raise ExportError(f"{path}: {reason}") from error


def _cut(network: Any, path: Path, layer: str) -> Any:
    name, _, inner = layer.partition("/")
    names = [each.name for each in network.layers]
    if name not in names:
        raise ExportError(f"{path}: --layer: there is no layer {name!r}; the last ones are {', '.join(names[-5:])}")
    # Not `layer.output`, which is the first of several, and inside a nested model another tensor.
    graph = getattr(network, "_functional", network)
    calls = [node for nodes in graph._nodes_by_depth.values() for node in nodes if node.operation.name == name]
    if len(calls) != 1 or len(calls[0].outputs) != 1:
        raise ExportError(f"{path}: --layer {name}: the model has more than one output of it; name another layer")
    inputs, output = network.inputs if len(network.inputs) > 1 else network.inputs[0], calls[0].outputs[0]
    if inner:
        nested = calls[0].operation
        if not isinstance(nested, keras.Model) or len(calls[0].input_tensors) != 1:
            raise ExportError(f"{path}: --layer {layer}: {name!r} is not a model of one input with layers inside")
        output = _cut(nested, path, inner)(calls[0].input_tensors[0])
    return keras.Model(inputs, output)


def _check_dtypes(network: Any, path: Path) -> None:
    dtype = keras.backend.standardize_dtype(network.inputs[0].dtype)
    accepts = dtype == "float32" or keras.backend.is_int_dtype(dtype)
    others = [
        layer
        for layer in network._flatten_layers()
        if layer.compute_dtype != "float32" and not isinstance(layer, keras.layers.InputLayer)
    ]
    if not accepts or others:
        where = f"layer {others[0].name!r} does not ({others[0].compute_dtype})" if others else f"its input is {dtype}"
        raise ExportError(
            f"{path}: the model must compute in float32, {where}; build it again after "
            "keras.config.set_dtype_policy('float32'), give it this one's weights and save that"
        )


def _check_channels(network: Any, path: Path) -> None:
    for layer in network._flatten_layers():
        kind = type(layer).__name__
        if getattr(layer, "data_format", None) == "channels_first" and kind.startswith(_CHANNELS_LAST_ONLY):
            raise ExportError(
                f"{path}: layer {layer.name!r} ({kind}) has its channels first (NCHW), which TensorFlow does not "
                "compute on a CPU; build the model again with data_format='channels_last', give it this one's weights, "
                "which have the same shapes, and save that"
            )


def _input_size(network: Any, path: Path, size: Size | None) -> Size:
    shape = tuple(network.inputs[0].shape)
    if len(shape) != 4 or shape[3] != 3 or (size is None and None in shape[1:]):
        hint = "; --input-size fixes it" if len(shape) == 4 and shape[3] == 3 else ""
        raise ExportError(f"{path}: the input must be [N, height, width, 3] with fixed sizes, it is {shape}{hint}")
    if size is None:
        return int(shape[1]), int(shape[2])
    height, width = size
    if shape[1] not in (None, height) or shape[2] not in (None, width):
        raise ExportError(
            f"{path}: --input-size {height}x{width}: the model's input is fixed, {shape}; leave the option out"
        )
    try:
        network(keras.Input((height, width, 3)))
    except Exception as error:  # a size that leaves nothing of the image fails with any class
        raise ExportError(
            f"{path}: --input-size {height}x{width}: the model cannot take it: {innermost(error)}"
        ) from error
    return size
