"""Write the graph by which the server searches on a GPU, or check that the one in the package is this one.

One graph serves every length of vectors and number of rows, because all shapes come with the inputs. The server ships
it as a file, so that it need not depend on `onnx`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

PATH = Path(__file__).parents[1] / "server/lookalike_server/device_search/nearest_rows.onnx"

_OPSET, _IR = 18, 10  # which every ONNX Runtime reads that the server accepts
_MASKED = -60_000.0  # a half that no dot product brings near any other score


def graph() -> bytes:
    """Return the graph as bytes; see `Runs` of the server's `device_search` for its inputs and outputs."""
    half, long = TensorProto.FLOAT16, TensorProto.INT64
    inputs = [
        helper.make_tensor_value_info("queries", half, ["q", "dim"]),
        helper.make_tensor_value_info("rows", half, ["n", "dim"]),
        helper.make_tensor_value_info("allowed", TensorProto.BOOL, ["n"]),
        helper.make_tensor_value_info("chunks", long, [3]),
        helper.make_tensor_value_info("count", long, [1]),
    ]
    outputs = [
        helper.make_tensor_value_info("scores", half, ["q", "n"]),
        helper.make_tensor_value_info("best", half, ["q", "count"]),
        helper.make_tensor_value_info("place", long, ["q", "count"]),
        helper.make_tensor_value_info("within", long, ["q", "count"]),
    ]
    constants: dict[str, np.ndarray[Any, Any]] = {
        "distance": np.array(-1, dtype=np.float16),  # of a row to itself, so that the nearest scores are near zero
        "masked": np.array(_MASKED, dtype=np.float16),
        "flat": np.array([0, -1], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Where", ["allowed", "distance", "masked"], ["added"]),
        helper.make_node("Gemm", ["queries", "rows", "added"], ["scores"], transB=1),
        # A row of a million scores would be one block of threads; chunks are many.
        helper.make_node("Reshape", ["scores", "chunks"], ["by_chunk"]),
        helper.make_node("TopK", ["by_chunk", "count"], ["chunk_best", "chunk_within"], axis=-1, sorted=0),
        helper.make_node("Reshape", ["chunk_best", "flat"], ["winners"]),
        helper.make_node("Reshape", ["chunk_within", "flat"], ["winners_within"]),
        helper.make_node("TopK", ["winners", "count"], ["best", "place"], axis=-1, sorted=1),
        helper.make_node("GatherElements", ["winners_within", "place"], ["within"], axis=1),
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "nearest_rows", inputs, outputs, initializers)
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR, producer_name="lookalike"
    )
    checker.check_model(model, full_check=True)
    written: bytes = model.SerializeToString(deterministic=True)
    return written


def main() -> int:
    """Write or check; exit status 1 where the file differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 where the file differs")
    if parser.parse_args().check:
        return int(not PATH.exists() or PATH.read_bytes() != graph())
    PATH.write_bytes(graph())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
