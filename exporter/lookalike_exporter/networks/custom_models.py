"""Load a caller's own Keras model, and name the layer where it cannot be exported."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras

from lookalike_exporter.compat.keras_patches import UNLISTED_LAYERS
from lookalike_exporter.errors import ExportError, first_line
from lookalike_exporter.request import Size


def load_network(path: Path, input_size: Size | None, layer: str | None) -> tuple[Any, Size]:
    """Load a model file; code inside it is not run.

    Args:
        path: A `.keras` or `.h5`.
        input_size: Height and width in pixels, for a model that leaves them open; None for the model's own.
        layer: The layer whose output is the result; None for the model's own output.

    Returns:
        A model [N, height, width, 3] float32 -> any one tensor, and the input's height and width.

    Raises:
        ExportError: The file is missing or damaged, a layer cannot be loaded, or the model is not one float32
            image in, one tensor out.
    """
    config = _read_config(path)
    try:
        network = keras.models.load_model(path, custom_objects=UNLISTED_LAYERS, compile=False, safe_mode=True)
    except Exception as error:  # a damaged or foreign file fails in Keras with any class
        reason = _describe_unloadable(config) or f"cannot load it as a Keras model: {_innermost(error)}"
        if path.suffix == ".h5":
            reason += " (operations that are not layers are lost in an .h5; a .keras keeps them)"
        raise ExportError(f"{path}: {reason}") from error
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
    return network, _input_size(network, path, input_size)


def _read_config(path: Path) -> dict[str, Any]:
    """Read the model's description, which names the layers even where Keras cannot make them."""
    if path.is_dir():
        raise ExportError(f"{path}: a folder is not a model file; load it where it was made, model.save('x.keras')")
    if not path.is_file():
        raise ExportError(f"{path}: no such model file")
    if path.suffix not in {".keras", ".h5"}:
        raise ExportError(f"{path}: a model file's name ends in .keras or .h5")
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                text = archive.read("config.json")
        else:
            with h5py.File(path, "r") as file:
                if "model_config" not in file.attrs:
                    raise ExportError(
                        f"{path}: it has weights and no model; save the whole model, model.save('x.keras'), "
                        f"or for the weights of a known network pass --backbone NAME --weights {path}"
                    )
                text = file.attrs["model_config"]
        config = json.loads(text)
    except (OSError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise ExportError(f"{path}: damaged, or not a Keras model: {first_line(error)}") from error
    if not isinstance(config, dict):
        raise ExportError(f"{path}: damaged, or not a Keras model: its description is not a JSON object")
    return config


def _describe_unloadable(config: dict[str, Any]) -> str | None:
    """Describe the layer Keras did not load, and what to do; None where the description shows none."""
    for layer in _layers(config):
        name, kind = layer.get("name") or layer["config"].get("name"), layer["class_name"]
        if kind == "Lambda":
            return (
                f"layer {name!r} is a Lambda, which is Python code inside the file and is not run. "
                "Save the model again with one of Keras' layers in its place; "
                "if it only scales pixels, leave it out and pass --preprocess"
            )
        # The .h5 format does not say where a class comes from.
        if "module" in layer:
            known = str(layer["module"]).split(".")[0] == "keras"
        else:
            known = hasattr(keras.layers, kind) or kind in {"Functional", "Model", "Sequential", *UNLISTED_LAYERS}
        if not known:
            return (
                f"layer {name!r} is of the class {kind!r}, which is not one of Keras' and whose code is not here. "
                "Save the model again with Keras' own layers in its place"
            )
        function = _function(layer["config"])
        if function is not None:
            return (
                f"layer {name!r} uses the function {function!r}, whose code is not here. "
                "Save the model again with one of Keras' own functions or layers in its place"
            )
    return None


def _layers(config: Any) -> Iterator[dict[str, Any]]:
    """Yield the descriptions of all layers, also of nested models and inside wrappers, the model's own last."""
    if not isinstance(config, dict) or "class_name" not in config or not isinstance(config.get("config"), dict):
        return
    nested = config["config"].get("layers", [])
    for layer in [*(nested if isinstance(nested, list) else []), config["config"].get("layer")]:
        yield from _layers(layer)
    yield config


def _function(config: dict[str, Any]) -> str | None:
    """Return the name of a function of the caller's own in a layer's settings; Keras' own are plain strings."""
    named = (value for value in config.values() if isinstance(value, dict) and value.get("class_name") == "function")
    return next((str(value.get("config")) for value in named), None)


def _innermost(error: BaseException) -> str:
    """Return the innermost message: Keras repeats the error of a layer inside one of each model around it."""
    message = str(error).rpartition("Exception encountered:")[2].strip()
    return message.splitlines()[0] if message else first_line(error)


def _cut(network: Any, path: Path, layer: str) -> Any:
    names = [each.name for each in network.layers]
    if layer not in names:
        raise ExportError(f"{path}: --layer: there is no layer {layer!r}; the last ones are {', '.join(names[-5:])}")
    # Not `layer.output`, which is the first of several, and inside a nested model another tensor.
    graph = getattr(network, "_functional", network)
    calls = [node for nodes in graph._nodes_by_depth.values() for node in nodes if node.operation.name == layer]
    if len(calls) != 1 or len(calls[0].outputs) != 1:
        raise ExportError(f"{path}: --layer {layer}: the model has more than one output of it; name another layer")
    inputs = network.inputs if len(network.inputs) > 1 else network.inputs[0]
    return keras.Model(inputs, calls[0].outputs[0])


def _check_dtypes(network: Any, path: Path) -> None:
    dtype = keras.backend.standardize_dtype(network.inputs[0].dtype)
    other = [layer for layer in network._flatten_layers() if layer.compute_dtype != "float32"]
    if dtype != "float32" or other:
        where = f"layer {other[0].name!r} does not ({other[0].compute_dtype})" if other else f"its input is {dtype}"
        raise ExportError(
            f"{path}: the model must compute in float32, {where}; build it again after "
            "keras.config.set_dtype_policy('float32'), give it this one's weights and save that"
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
            f"{path}: --input-size {height}x{width}: the model cannot take it: {_innermost(error)}"
        ) from error
    return size
