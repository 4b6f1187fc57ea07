"""What a model file says of itself, read without loading it: the version of Keras, its training, and its layers."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras

from lookalike_exporter.compat.keras2_config import KERAS2_LAYERS
from lookalike_exporter.compat.keras2_operations import OPERATION_LAYERS, OPERATIONS
from lookalike_exporter.compat.keras_patches import UNLISTED_LAYERS
from lookalike_exporter.errors import ExportError, first_line

_KNOWN = {"Functional", "Model", "Sequential", *UNLISTED_LAYERS}


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A model file without its weights.

    Attributes:
        config: The layers and their connections, in the format of the Keras that saved it.
        keras: The version of that; `2.x` for an .h5 and `3.x` for a .keras file that do not say it.
        loss: What the model was trained with, as JSON; empty where the file does not say it.
    """

    config: dict[str, Any]
    keras: str
    loss: str


def read_description(path: Path) -> ModelDescription:
    """Read the description, which names the layers even where Keras cannot make them.

    Raises:
        ExportError: There is no such file, or it is damaged or not a Keras model.
    """
    if path.is_dir():
        raise ExportError(f"{path}: a folder is not a model file; load it where it was made, model.save('x.keras')")
    if not path.is_file():
        raise ExportError(f"{path}: no such model file")
    if path.suffix not in {".keras", ".h5"}:
        raise ExportError(f"{path}: a model file's name ends in .keras or .h5")
    try:
        if path.suffix == ".keras":
            config, version, training = _read_zip(path)
        else:
            config, version, training = _read_hdf5(path)
    except (OSError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise ExportError(f"{path}: damaged, or not a Keras model: {first_line(error)}") from error
    if not isinstance(config, dict):
        raise ExportError(f"{path}: damaged, or not a Keras model: its description is not a JSON object")
    loss = training.get("loss") if isinstance(training, dict) else None
    return ModelDescription(config, version, json.dumps(loss) if loss else "")


def _read_zip(path: Path) -> tuple[Any, str, Any]:
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        metadata = json.loads(archive.read("metadata.json")) if "metadata.json" in archive.namelist() else {}
    version = str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
    return config, version or "3.x", config.get("compile_config") if isinstance(config, dict) else None


def _read_hdf5(path: Path) -> tuple[Any, str, Any]:
    with h5py.File(path, "r") as file:
        if "model_config" not in file.attrs:
            raise ExportError(
                f"{path}: it has weights and no model; save the whole model, model.save('x.keras'), "
                f"or for the weights of a known network pass --backbone NAME --weights {path}"
            )
        config, training = (json.loads(file.attrs.get(name, "null")) for name in ("model_config", "training_config"))
        version = file.attrs.get("keras_version", "2.x")
    return config, version.decode() if isinstance(version, bytes) else str(version), training


def describe_unloadable(description: ModelDescription) -> str | None:
    """Describe the layer Keras did not load, and what to do; None where the description shows none."""
    for layer in _layers(description.config):
        name, kind = layer.get("name") or layer["config"].get("name"), layer["class_name"]
        if kind == "Lambda":
            return (
                f"layer {name!r} is a Lambda, which is Python code inside the file and is not run. "
                "Save the model again with one of Keras' layers in its place; "
                "if it only scales pixels, leave it out and pass --preprocess"
            )
        if description.keras < "3":
            if kind in OPERATION_LAYERS and layer["config"].get("function") not in OPERATIONS:
                return f"layer {name!r} is an operation of TensorFlow that Keras 3 has no layer for"
            known = hasattr(keras.layers, kind) or kind in _KNOWN or kind in KERAS2_LAYERS
        # The .h5 format does not say where a class comes from.
        elif "module" in layer:
            known = str(layer["module"]).split(".")[0] == "keras"
        else:
            known = hasattr(keras.layers, kind) or kind in _KNOWN
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


def innermost(error: BaseException) -> str:
    """Return the innermost message: Keras repeats the error of a layer inside one of each model around it."""
    message = str(error).rpartition("Exception encountered:")[2].strip()
    return message.splitlines()[0] if message else first_line(error)
