"""Rewrites a graph so that ONNX Runtime computes what a processor with bf16 would, on any processor.

AMX and AVX-512 BF16 multiply bf16 factors and add in float32. So every factor of a convolution or matrix product is
rounded to bf16 here, as are the values between the layers, which OpenVINO keeps in bf16; sums stay in float32.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

_PRODUCTS = ("Conv", "Gemm", "MatMul")


def compute_in_bf16(source: Path, target: Path) -> None:
    """Write the graph `source` to `target` with rounded factors."""
    model = onnx.load(str(source))
    rounded: dict[str, str] = {}
    nodes = []

    def round_to_bf16(name: str) -> str:
        if name not in rounded:
            short, wide = f"{name}/bf16", f"{name}/rounded"
            nodes.append(helper.make_node("Cast", [name], [short], to=TensorProto.BFLOAT16))
            nodes.append(helper.make_node("Cast", [short], [wide], to=TensorProto.FLOAT))
            rounded[name] = wide
        return rounded[name]

    for node in model.graph.node:
        if node.op_type in _PRODUCTS:
            for at in (0, 1):
                node.input[at] = round_to_bf16(node.input[at])
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(target))
