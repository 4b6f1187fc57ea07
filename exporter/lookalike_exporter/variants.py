"""Variants of an fp32 graph that compute with fewer bits: fp16 for GPUs, int8 for CPUs.

Both leave the end of the graph alone (pooling, projection, length 1): it costs next to nothing, sums of many squares
overflow fp16, and its rounding would go straight into the embedding.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.transformers.float16 import convert_float_to_float16

from lookalike_exporter.canonical import INPUT, OUTPUT, canonical_form
from lookalike_exporter.photos import Pictures

PERCENTILE = 99.999
"""Of each layer's values that its 256 steps span. On real weights 99.99 lost four of a hundred neighbours more."""

_END = {
    *("Identity", "Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "GlobalAveragePool"),
    *("GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceSum", "ReduceSumSquare", "ReduceL2", "MatMul", "Gemm", "Add"),
    *("Sub", "Mul", "Div", "Pow", "Sqrt", "Reciprocal", "Min", "Max", "Clip", "Softmax"),
}
_QUANTISED = ("Conv", "ConvTranspose", "Relu", "MaxPool", "AveragePool", "Concat", "Add", "Mul", "MatMul", "Gemm")
_AT_ONCE = 4  # photos whose layers' values are in memory together


def to_fp16(graph: bytes) -> bytes:
    """The graph in half precision, its input, output and end as they were."""
    model = onnx.load_from_string(graph)
    converted = convert_float_to_float16(model, keep_io_types=True, node_block_list=_end_of(model))
    return _serialised(converted, model)


class Int8:
    """Makes int8 graphs of one that was calibrated: QDQ, static, weights per channel."""

    def __init__(self, graph: bytes, pictures: Pictures) -> None:
        """Run the graph over pictures and note the range of every layer."""
        self._graph = graph
        model = onnx.load_from_string(graph)
        self._convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
        with tempfile.TemporaryDirectory() as scratch, redirect_stdout(StringIO()):
            path = Path(scratch) / "graph.onnx"
            path.write_bytes(graph)
            calibrator = create_calibrator(
                str(path),
                list(_QUANTISED),
                augmented_model_path=str(Path(scratch) / "calibrated.onnx"),
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={"percentile": PERCENTILE},
            )
            for photos in pictures.batches(_AT_ONCE):
                calibrator.collect_data(_Feed(photos))
            self._ranges = calibrator.compute_data()

    def choices(self) -> list[tuple[str, ...]]:
        """Which layers can be kept in fp32: none, the first, the last, both."""
        if len(self._convolutions) < 2:
            return [()]
        first, *_, last = self._convolutions
        return [(), (first,), (last,), (first, last)]

    def quantised(self, kept: Sequence[str]) -> bytes:
        """The graph with these layers in fp32 and the others in int8."""
        model = onnx.load_from_string(self._graph)
        excluded = [*kept, *_end_of(model), *_beginning_of(model)]
        quantiser = QDQQuantizer(
            onnx.load_from_string(self._graph),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=excluded,
            op_types_to_quantize=list(_QUANTISED),
            extra_options={},
        )
        quantiser.quantize_model()
        return _serialised(quantiser.model.model, model)


class _Feed(CalibrationDataReader):  # type: ignore[misc]  # the library is untyped
    """Photos one by one."""

    def __init__(self, photos: Any) -> None:
        self._photos: Iterator[Any] = iter(photos)

    def get_next(self) -> dict[str, Any] | None:
        """The next one, or None after the last."""
        photo = next(self._photos, None)
        return None if photo is None else {INPUT: photo[None]}


def _end_of(model: ModelProto) -> list[str]:
    """The names of the nodes from the output back to the network's own last layer."""
    producer = {name: node for node in model.graph.node for name in node.output}
    found, waiting = [], [OUTPUT]
    while waiting:
        node = producer.get(waiting.pop())
        if node is not None and node.op_type in _END and node.name not in found and not _joins(node, producer):
            found.append(node.name)
            waiting += node.input
    return found


def _joins(node: Any, producer: dict[str, Any]) -> bool:
    """Whether it adds up two branches of the network."""
    return node.op_type == "Add" and all(name in producer for name in node.input)


def _beginning_of(model: ModelProto) -> list[str]:
    """The names of the nodes before the first convolution: the preprocessing."""
    names = []
    for node in model.graph.node:
        if node.op_type == "Conv":
            break
        names.append(node.name)
    return names


def _serialised(changed: Any, original: ModelProto) -> bytes:
    (opset,) = [each.version for each in original.opset_import if each.domain == ""]
    properties = {each.key: each.value for each in original.metadata_props}
    canonical = canonical_form(changed, opset, properties)
    onnx.checker.check_model(canonical, full_check=True)
    serialised: bytes = canonical.SerializeToString(deterministic=True)
    return serialised
