"""Rewrite a model's description by Keras 2 (2.0 to 2.16, tf.keras and tf_keras) into that of Keras 3.

What differs without changing what a model computes is in the tables below: names of the modules and classes, settings
that Keras 3 lacks with the one value it stands for, and the form of the connections between layers. Sources: the
`get_config` of every layer of Keras 2.15 against the constructors of Keras 3.15, and `keras/src/engine/functional.py`
of Keras 2.15 for the connections.
"""

from typing import Any

import keras

from lookalike_exporter.compat.keras2_operations import HARD_SIGMOID, OPERATION_LAYERS, Keras2Operation

MODELS = {"Model": "Functional", "Functional": "Functional", "Sequential": "Sequential"}
"""Classes of models by Keras 2, and their names now."""

RENAMED_LAYERS = {
    "BatchNormalizationV1": "BatchNormalization",  # TensorFlow 1.13 and 1.14
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "Custom>CustomScaleLayer": "CustomScaleLayer",  # inside InceptionResNetV2
    "ThresholdedReLU": "ReLU",
}

# They do something in training alone. FixedDropout is of the package `efficientnet`.
_IDENTITIES = ("RandomHeight", "RandomWidth", "SpatialDropout2D", "FixedDropout")

KERAS2_LAYERS = {*RENAMED_LAYERS, *_IDENTITIES, *OPERATION_LAYERS}
"""Classes that Keras 3 does not have, and that `migrate` replaces."""

# Only training uses what these set, or the weights replace it.
_TRAINING_SETTINGS = ("_initializer", "_regularizer", "_constraint")

_CONVOLUTION = {"groups": 1}
_BATCH_NORMALIZATION = {
    "renorm": False,
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
    "virtual_batch_size": None,
    "adjustment": None,
}

_RENAMED_SETTINGS = {"LeakyReLU": {"alpha": "negative_slope"}, "ThresholdedReLU": {"theta": "threshold"}}

# Settings that Keras 3 does not have, with the only value that means what it does.
LOST_SETTINGS: dict[str, dict[str, Any]] = {
    "DepthwiseConv2D": _CONVOLUTION,
    "SeparableConv2D": _CONVOLUTION,
    "Conv2DTranspose": _CONVOLUTION,
    "BatchNormalization": _BATCH_NORMALIZATION,
}

# Settings that Keras 3 finds by itself, or that change how fast it is, whatever their value.
_DERIVED_SETTINGS = {
    "MultiHeadAttention": ("query_shape", "key_shape", "value_shape"),
    "BatchNormalization": ("fused",),
}


def migrate(description: dict[str, Any]) -> dict[str, Any]:
    """Describe a model of Keras 2 as Keras 3 does; what has no counterpart stays as it is.

    Raises:
        ValueError: A layer does what it cannot do in Keras 3; its name and why.
        AttributeError, IndexError, KeyError, TypeError: The description is not one by Keras 2.
    """
    return _migrate_layer(description)


def _migrate_layer(layer: dict[str, Any]) -> dict[str, Any]:
    kind, settings = layer["class_name"], layer["config"]
    if kind in MODELS:
        return _migrate_model(MODELS[kind], settings)
    renamed, kind = _RENAMED_SETTINGS.get(kind, {}), RENAMED_LAYERS.get(kind, kind)
    settings = {
        renamed.get(name, name): value for name, value in settings.items() if not name.endswith(_TRAINING_SETTINGS)
    }
    if "name" in settings:
        settings["name"] = _name(settings["name"])
    lost, derived = LOST_SETTINGS.get(kind, {}), _DERIVED_SETTINGS.get(kind, ())
    for name in lost:
        if settings.get(name, lost[name]) != lost[name]:
            raise ValueError(f"layer {settings['name']!r} has {name}={settings[name]!r}, which Keras 3 does not have")
    settings = {name: value for name, value in settings.items() if name not in derived and name not in lost}
    if isinstance(settings.get("dtype"), dict):  # a policy
        settings["dtype"] = settings["dtype"]["config"]["name"]
    shape = settings.pop("batch_input_shape", None)  # of a layer that is no input, a Sequential has read it
    if kind == "InputLayer" and shape is not None:
        settings["batch_shape"] = shape
    if kind == "BatchNormalization" and isinstance(settings.get("axis"), list):
        if len(settings["axis"]) != 1:
            raise ValueError(f"layer {settings['name']!r} normalizes several axes, which Keras 3 does not")
        settings["axis"] = settings["axis"][0]
    if settings.get("activation") == "hard_sigmoid":
        settings["activation"] = _describe("function", None, HARD_SIGMOID) | {"registered_name": HARD_SIGMOID}
    if isinstance(settings.get("layer"), dict):  # a wrapper's
        settings["layer"] = _migrate_layer(settings["layer"])
    if kind in _IDENTITIES:
        kind, settings = "Identity", {"name": settings["name"]}
    elif kind in OPERATION_LAYERS:
        return _describe(Keras2Operation.__name__, None, settings)
    return _describe(kind, "keras.layers" if hasattr(keras.layers, kind) else None, settings)


def _name(name: str) -> str:
    """Return a layer's name as Keras 3 permits it: MobileNetV3 has `Conv/BatchNorm`."""
    return name.replace("/", "_")


def _describe(kind: str, module: str | None, settings: Any) -> dict[str, Any]:
    """Describe a class of Keras' own, or (without a module) one that is found by its name."""
    registered = None if module else kind
    return {"module": module, "class_name": kind, "config": settings, "registered_name": registered}


def _migrate_model(kind: str, settings: Any) -> dict[str, Any]:
    if kind == "Sequential":
        if isinstance(settings, list):  # before Keras 2.2.3
            settings = {"name": "sequential", "layers": settings}
        return _describe(
            kind, "keras", settings | {"layers": list(map(_migrate_layer, _with_input(settings["layers"])))}
        )
    counts = _NodeNumbers(settings)
    layers = []
    for layer in settings["layers"]:
        nodes = [counts.migrate_node(node) for node in layer["inbound_nodes"]]
        layers.append(_migrate_layer(layer) | {"name": _name(layer["name"]), "inbound_nodes": nodes})
    ends = {end: counts.migrate_ends(settings[end]) for end in ("input_layers", "output_layers")}
    return _describe(kind, "keras.src.models.functional", settings | {"layers": layers} | ends)


def _with_input(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the input that a Sequential's first layer may describe in its settings before it, as a layer of its own."""
    first = layers[0]
    if first["class_name"] == "InputLayer" or "batch_input_shape" not in first["config"]:
        return layers
    settings = {key: first["config"][key] for key in ("batch_input_shape", "dtype") if key in first["config"]}
    return [{"class_name": "InputLayer", "config": settings}, *layers]


class _NodeNumbers:
    """The calls of a model's layers, which Keras 2 counts from 1 for models with an input and Keras 3 from 0.

    Whether a Sequential had an input when it was saved is seen from the largest number: of N calls it is N or N - 1.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._functional = {
            layer["name"] for layer in settings["layers"] if MODELS.get(layer["class_name"]) == "Functional"
        }
        self._first: dict[str, int] = dict.fromkeys(self._functional, 1)
        self._names = {layer["name"] for layer in settings["layers"]}
        sequential = {
            layer["name"]: len(layer["inbound_nodes"])
            for layer in settings["layers"]
            if MODELS.get(layer["class_name"]) == "Sequential"
        }

        def note(reference: list[Any]) -> None:
            _map_references(reference[3:], note, self._names)  # keyword arguments may be tensors too
            if reference[1] >= sequential.get(reference[0], reference[1] + 1):
                self._first[reference[0]] = 1

        for layer in settings["layers"]:
            _map_references(layer["inbound_nodes"], note, self._names)
        _map_references(settings["output_layers"], note)

    def migrate_ends(self, references: Any) -> Any:
        """Migrate a model's inputs or outputs, of which Keras 2 makes a list even of one."""
        if isinstance(references, list) and len(references) == 1 and isinstance(references[0], list):
            return self._end(references[0])
        return _map_references(references, self._end)

    def _end(self, reference: list[Any]) -> list[Any]:
        name, node, tensor = reference[:3]
        # Keras 3 reads those of a Functional as Keras 2 does, here alone.
        return [_name(name), node - (0 if name in self._functional else self._first.get(name, 0)), tensor]

    def migrate_node(self, node: list[Any]) -> dict[str, Any]:
        """Migrate one call: its tensors, each with the keyword arguments behind it, or one such of an operation."""
        inputs = [node] if isinstance(node[0], str) else node
        arguments = [self._argument(each) for each in inputs]
        keywords = inputs[0][3] if len(inputs[0]) > 3 else {}
        keywords = {name: _map_references(value, self._tensor, self._names) for name, value in keywords.items()}
        return {"args": arguments if len(arguments) == 1 else [arguments], "kwargs": keywords}

    def _argument(self, reference: list[Any]) -> Any:
        return reference[2] if reference[0] == "_CONSTANT_VALUE" else self._tensor(reference)

    def _tensor(self, reference: list[Any]) -> dict[str, Any]:
        name, node, tensor = reference[:3]
        history = [_name(name), node - self._first.get(name, 0), tensor]
        # The shape and dtype are not used where there is a history.
        return {"class_name": "__keras_tensor__", "config": {"shape": [], "dtype": "float32", "keras_history": history}}


def _map_references(value: Any, change: Any, names: Any = None) -> Any:
    """Change each [layer, call, tensor] in lists and mappings; `names` are the layers there are, None for any."""
    if isinstance(value, dict):
        return {key: _map_references(each, change, names) for key, each in value.items()}
    if not isinstance(value, list):
        return value
    if _is_reference(value) and (names is None or value[0] in names):
        return change(value)
    return [_map_references(each, change, names) for each in value]


def _is_reference(value: list[Any]) -> bool:
    return len(value) in (3, 4) and isinstance(value[0], str) and all(type(each) is int for each in value[1:3])
