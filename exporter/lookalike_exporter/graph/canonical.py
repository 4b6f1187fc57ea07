"""The canonical form of an ONNX graph: the same network gives the same bytes, so the digest identifies the model.

tf2onnx numbers what it inserts by a counter of the process and walks unordered sets; without this, the same
network would be another file each time.
"""

from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, ModelProto

from lookalike_exporter.errors import ExportError

INPUT, OUTPUT = "images", "embeddings"


def canonical_form(model: ModelProto, opset: int, properties: dict[str, str]) -> ModelProto:
    """Return the same graph with names and order that follow from its structure alone.

    Nodes are put in the order of a depth-first walk from the output and named by it, constants by first use.

    Args:
        model: A graph with the one input `INPUT` and the one output `OUTPUT`, the batch first in both.
        opset: The operator set it was converted to.
        properties: For the file's metadata.

    Raises:
        ExportError: Another input or output, or a subgraph.
    """
    graph = model.graph
    names = {INPUT: INPUT, OUTPUT: OUTPUT, "": ""}
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    ordered = onnx.helper.make_graph([], "lookalike", [_dynamic(graph.input)], [_dynamic(graph.output)])
    for node in _walk(graph):
        for name in node.input:
            if name in initializers and name not in names:
                names[name] = f"constant_{len(ordered.initializer):04d}"
                ordered.initializer.append(initializers[name])
                ordered.initializer[-1].name = names[name]
                ordered.initializer[-1].ClearField("doc_string")
        label = f"{len(ordered.node):04d}_{node.op_type}"
        for position, name in enumerate(node.output):
            names.setdefault(name, f"{label}_{position}")
        renamed = ordered.node.add()
        renamed.CopyFrom(node)
        renamed.name = label
        renamed.ClearField("doc_string")
        renamed.input[:] = [names[name] for name in node.input]
        renamed.output[:] = [names[name] for name in node.output]
        attributes = sorted(renamed.attribute, key=lambda attribute: str(attribute.name))
        if any(attribute.type == AttributeProto.GRAPH for attribute in attributes):
            raise ExportError(f"it has a branch or a loop ({node.op_type}), which an embedding does not need")
        del renamed.attribute[:]
        renamed.attribute.extend(attributes)
    canonical = onnx.helper.make_model(
        ordered, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=model.ir_version
    )
    canonical.producer_name = "lookalike-exporter"
    onnx.helper.set_model_props(canonical, dict(sorted(properties.items())))
    return canonical


def _walk(graph: GraphProto) -> list[Any]:
    """Order the nodes the output depends on, each after those it takes its inputs from."""
    producer = {name: node for node in graph.node for name in node.output}
    ordered, seen = [], set()
    stack = [(producer[OUTPUT], False)]
    while stack:
        node, done = stack.pop()
        if done:
            ordered.append(node)
        elif node.output[0] not in seen:
            seen.add(node.output[0])
            stack.append((node, True))
            stack.extend((producer[name], False) for name in reversed(node.input) if name in producer)
    return ordered


def _dynamic(values: Any) -> Any:
    """Return the graph's only input or output, with its first dimension called N."""
    if len(values) != 1:
        raise ExportError(f"the graph has {len(values)} inputs or outputs instead of one")
    value = values[0]
    value.type.tensor_type.shape.dim[0].dim_param = "N"
    return value


def serialize(model: ModelProto, opset: int, properties: dict[str, str]) -> bytes:
    """Bring a model into canonical form, check it and serialize it.

    Raises:
        ExportError: As `canonical_form`.
        Exception: The checker rejects it; its errors share no other base class.
    """
    canonical = canonical_form(model, opset, properties)
    onnx.checker.check_model(canonical, full_check=True)
    serialized: bytes = canonical.SerializeToString(deterministic=True)
    return serialized
