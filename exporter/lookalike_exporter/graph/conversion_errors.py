"""Find the layer of a network that tf2onnx cannot convert.

tf2onnx names TensorFlow's operations, in its log. Keras puts the names of the layers into those.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from onnx import AttributeProto, ModelProto

from lookalike_exporter.errors import ExportError

_REMEDY = "cut the network before it with --layer, or save it with another layer in its place"


@dataclass(frozen=True, slots=True)
class ConversionFailure:
    """An operation that was not converted: its name in TensorFlow's graph, and its kind where tf2onnx says it."""

    operation: str
    kind: str | None


@contextmanager
def collect_failures() -> Iterator[list[ConversionFailure]]:
    """Collect what tf2onnx logs as not converted, in place of printing it."""
    failures: list[ConversionFailure] = []

    def collect(record: logging.LogRecord) -> bool:
        args = record.args
        if record.levelno >= logging.ERROR and isinstance(args, tuple) and args and isinstance(args[0], str):
            unknown = str(record.msg).startswith("Tensorflow op")
            failures.append(ConversionFailure(args[0], str(args[1]) if unknown else None))
        return False

    logger = logging.getLogger("tf2onnx.tfonnx")
    logger.addFilter(collect)
    try:
        yield failures
    finally:
        logger.removeFilter(collect)


def check_converted(converted: ModelProto, failures: Sequence[ConversionFailure], network: Any) -> None:
    """Reject a graph with an operation that ONNX does not have, or with a branch or a loop.

    Args:
        converted: What tf2onnx made.
        failures: What it logged.
        network: The Keras model, to name the layer.

    Raises:
        ExportError: The first such operation, by its layer.
    """
    kinds = {node.op_type for node in converted.graph.node}
    for failure in failures:
        where = describe_layer(network, failure.operation)
        if failure.kind is None:
            raise ExportError(f"the network cannot be converted to ONNX: tf2onnx fails at {where}; {_REMEDY}")
        if failure.kind in kinds:  # one that nothing depends on is gone by now
            raise ExportError(
                f"the network cannot be converted to ONNX: {where} uses TensorFlow's {failure.kind}, "
                f"which ONNX does not have; {_REMEDY}"
            )
    for node in converted.graph.node:
        if any(attribute.type == AttributeProto.GRAPH for attribute in node.attribute):
            raise ExportError(
                f"the network cannot be converted to ONNX: {describe_layer(network, node.name)} has a branch or a loop "
                f"({node.op_type}), which an embedding does not need; {_REMEDY}"
            )


def describe_layer(network: Any, operation: str) -> str:
    """Describe the layer of an operation, or the operation where it belongs to none."""
    name = layer_of(network, operation)
    return f"operation {operation!r}" if name is None else f"layer {name!r}"


def layer_of(network: Any, operation: str) -> str | None:
    """Find the innermost layer of a Keras model that an operation belongs to; None where its name shows none.

    Args:
        network: A Keras model.
        operation: Its name in TensorFlow's graph, such as `functional_1/block_2_1/Conv2D`: scopes are named
            after layers, some with a number appended.
    """
    names = {layer.name for layer in network._flatten_layers()}
    for scope in reversed(operation.split("/")[:-1]):
        # The longer name last, though a layer may be called it: a second call of `conv` is `conv_1`, too.
        for candidate in (scope, re.sub(r"_\d+$", "", scope)):
            if candidate in names:
                return candidate
    return None
