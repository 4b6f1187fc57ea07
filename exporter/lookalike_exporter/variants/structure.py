"""Which nodes of an fp32 graph its variants leave alone.

The head (pooling, projection, length 1) costs next to nothing, sums of many squares overflow fp16, and its rounding
would go straight into the embedding.
"""

from typing import Any

from onnx import ModelProto

from lookalike_exporter.graph.canonical import OUTPUT, serialize

_HEAD = {
    *("Identity", "Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "GlobalAveragePool"),
    *("GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceSum", "ReduceSumSquare", "ReduceL2", "MatMul", "Gemm", "Add"),
    *("Sub", "Mul", "Div", "Pow", "Sqrt", "Reciprocal", "Min", "Max", "Clip", "Softmax"),
}


def head_nodes(model: ModelProto) -> list[str]:
    """Name the nodes from the output back to the network's own last layer."""
    producer = {name: node for node in model.graph.node for name in node.output}
    names, pending = [], [OUTPUT]
    while pending:
        node = producer.get(pending.pop())
        if node is not None and node.op_type in _HEAD and node.name not in names and not _joins(node, producer):
            names.append(node.name)
            pending += node.input
    return names


def preprocessing_nodes(model: ModelProto) -> list[str]:
    """Name the nodes before the first convolution."""
    names = []
    for node in model.graph.node:
        if node.op_type == "Conv":
            break
        names.append(node.name)
    return names


def serialize_like(original: ModelProto, changed: Any) -> bytes:
    """Serialize a changed model with the operator set and the metadata of the original."""
    (opset,) = [each.version for each in original.opset_import if each.domain == ""]
    return serialize(changed, opset, {each.key: each.value for each in original.metadata_props})


def _joins(node: Any, producer: dict[str, Any]) -> bool:
    """Return whether it adds up two branches of the network."""
    return node.op_type == "Add" and all(name in producer for name in node.input)
