"""Read Keras' HDF5 weight files into a network, layer by layer, by name.

By name and with every shape checked, because order alone is not enough: old ResNet50 files list the layers of a
block in another order, and some of those layers have equal shapes. Read here rather than by Keras, which
rejects the layer names with slashes that files of its first generation have.

Keras numbers layers without a name of their own as it creates them (`conv2d`, `conv2d_1`), starting from its
counter: those are matched by their place in that numbering.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lookalike_exporter.compat.keras_patches import to_snake_case
from lookalike_exporter.errors import ExportError, first_line

Arrays = list[np.ndarray[Any, np.dtype[np.float32]]]

# What a Keras 3 file may hold beside layers: the state of training, and of dropout's random numbers.
_NOT_LAYERS = {"optimizer", "seed_generator", "_metrics", "_compile_metrics", "_loss_tracker"}


def load_by_name(network: Any, path: Path, *, classifier: Sequence[str]) -> None:
    """Fill a network with a file's weights.

    Args:
        network: A built Keras model without its classifier.
        path: An HDF5 file as `save_weights` or `save` of any Keras generation writes it.
        classifier: Names of layers that the file may hold beyond the network's.

    Raises:
        ExportError: The file cannot be read, or it is not this network's; the first wrong layer is named.
    """
    stored = read_weights(path)
    layers = list(_weighted_layers(network.layers, stored))
    stored = _match_numbered(stored, layers)
    for layer in layers:
        expected = [tuple(int(side) for side in variable.shape) for variable in _variables(layer)]
        arrays = stored.get(layer.name)
        if arrays is None:
            names = ", ".join(list(stored)[:3])
            raise ExportError(
                f"{path}: not the weights of {network.name}: layer {layer.name!r} is not in the file, "
                f"which begins with {names}"
            )
        shapes = [array.shape for array in arrays]
        if shapes != expected:
            raise ExportError(
                f"{path}: not the weights of {network.name}: layer {layer.name!r} needs shapes "
                f"{expected}, the file has {shapes}"
            )
    extra = [name for name in stored if name not in {layer.name for layer in layers} | set(classifier)]
    if extra:
        raise ExportError(f"{path}: not the weights of {network.name}: it has no layer {extra[0]!r}, the file has")
    for layer in layers:
        for variable, array in zip(_variables(layer), stored[layer.name], strict=True):
            variable.assign(array)
        # A Normalization computes with a copy of its weights.
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def read_weights(path: Path) -> dict[str, Arrays]:
    """Map layer names to arrays in the order Keras saves a layer's weights in; layers without any are left out.

    Slashes in the names of the oldest files become underscores, as Keras 3 names layers.

    Raises:
        ExportError: No such file, not HDF5, damaged, or without layer names.
    """
    if not path.is_file():
        raise ExportError(f"{path}: no such weights file")
    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            return _read_named(root) or _read_numbered(root)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise ExportError(f"{path}: cannot read it as a Keras weights file: {first_line(error)}") from error


def _weighted_layers(layers: Sequence[Any], stored: Mapping[str, Arrays]) -> Iterator[Any]:
    """Yield the layers with weights: a nested model as one where the file keeps it so, else what is inside it."""
    for layer in layers:
        inner = list(layer._flatten_layers(include_self=False, recursive=False))
        if inner and layer.name not in stored:
            yield from _weighted_layers(inner, stored)
        elif layer.weights:
            yield layer


def _variables(layer: Any) -> list[Any]:
    """List a layer's variables in the order of a file, which is not that of `weights` in a nested model."""
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def _match_numbered(stored: Mapping[str, Arrays], layers: Sequence[Any]) -> dict[str, Arrays]:
    """Rename the file's numbered layers to the network's, in the order of their numbers."""
    renamed = dict(stored)
    for kind in {to_snake_case(type(layer).__name__) for layer in layers}:
        ours = _numbered_names(kind, [layer.name for layer in layers])
        theirs = _numbered_names(kind, stored)
        if len(ours) == len(theirs):
            for name in theirs:
                del renamed[name]
            renamed |= {mine: stored[name] for mine, name in zip(ours, theirs, strict=True)}
    return renamed


def _numbered_names(kind: str, names: Sequence[str] | Mapping[str, Arrays]) -> list[str]:
    """Pick the names that Keras gives to layers of a kind, in the order of their numbers."""
    matches = [match for name in names if (match := re.fullmatch(rf"{kind}(?:_(\d+))?", name))]
    return [match.string for match in sorted(matches, key=lambda match: int(match[1] or 0))]


def _read_named(root: Any) -> dict[str, Arrays]:
    """Read Keras 1 and 2, and Keras 3's `save("x.h5")`: attributes list the layers, and each layer's arrays."""
    stored = {}
    for name in _strings(root.attrs, "layer_names"):
        arrays = [np.asarray(root[name][weight]) for weight in _strings(root[name].attrs, "weight_names")]
        if arrays:
            stored[name.replace("/", "_")] = arrays
    return stored


def _read_numbered(root: Any) -> dict[str, Arrays]:
    """Read Keras 3's `save_weights("x.weights.h5")`: groups `vars` of numbered arrays, named by an attribute."""
    stored: dict[str, Arrays] = {}

    def visit(path: str, node: Any) -> None:
        parts = path.split("/")
        if parts[-1] == "vars" and len(node) and "name" in node.attrs and not _NOT_LAYERS & set(parts):
            stored[str(node.attrs["name"])] = [np.asarray(node[str(i)]) for i in range(len(node))]

    root.visititems(visit)
    if not stored:
        raise ValueError("it names no layers")
    return stored


def _strings(attributes: Mapping[str, Any], name: str) -> list[str]:
    """Read a list attribute of names; Keras splits one that is too long for HDF5 into `name0`, `name1`, ..."""
    chunks = [name] if name in attributes else []
    while f"{name}{len(chunks)}" in attributes:
        chunks.append(f"{name}{len(chunks)}")
    return [text.decode() if isinstance(text, bytes) else str(text) for chunk in chunks for text in attributes[chunk]]
