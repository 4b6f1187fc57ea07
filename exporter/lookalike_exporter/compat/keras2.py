"""Load model files that Keras 2 saved, as far as Keras 3 can compute the same."""

import copy
from pathlib import Path
from typing import Any

import keras

from lookalike_exporter.compat.keras2_config import migrate
from lookalike_exporter.compat.keras2_operations import HARD_SIGMOID, Keras2Operation, hard_sigmoid
from lookalike_exporter.compat.keras_patches import UNLISTED_LAYERS

_MIGRATED_OBJECTS = {
    **UNLISTED_LAYERS,
    Keras2Operation.__name__: Keras2Operation,
    HARD_SIGMOID: hard_sigmoid,
}


def load_keras2(path: Path, description: dict[str, Any]) -> Any:
    """Load a model file of Keras 2; code inside it is not run.

    Args:
        path: A `.keras` or `.h5`.
        description: The model's, as it is in the file.

    Raises:
        Exception: Keras 3 has no such layer, operation or setting, or finds the weights in another order. The errors
            share no other base class.
    """
    try:
        migrated = migrate(description)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError("its description of the layers is of another form than Keras 2 writes") from error
    with keras.saving.custom_object_scope(_MIGRATED_OBJECTS):
        network = keras.saving.deserialize_keras_object(copy.deepcopy(migrated), safe_mode=True)  # it is emptied
    _check_order(network, migrated)
    network.load_weights(path)
    return network


def _check_order(network: Any, description: dict[str, Any]) -> None:
    """Check that layers are in the order of the file: by that, and not by their names, Keras gives them their weights.

    Raises:
        ValueError: They are not.
    """
    described = description["config"]["layers"]
    names = [layer["config"]["name"] for layer in described if layer["class_name"] != "InputLayer"]
    layers = [layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)]
    if names != [layer.name for layer in layers]:
        raise ValueError("its layers come in another order in Keras 3")
    nested = {layer["config"]["name"]: layer for layer in described if "layers" in layer["config"]}
    for layer in layers:
        if layer.name in nested:
            _check_order(layer, nested[layer.name])
