"""Int8 graphs of an fp32 one: QDQ, static, weights per channel."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from lookalike_exporter.graph.canonical import INPUT
from lookalike_exporter.images import ImageSet, Pixels
from lookalike_exporter.variants.structure import head_nodes, preprocessing_nodes, serialize_like

PERCENTILE = 99.999
"""Of each layer's values that its 256 steps span. On real weights 99.99 lost four more of a hundred neighbors."""

_QUANTIZED = ("Conv", "ConvTranspose", "Relu", "MaxPool", "AveragePool", "Concat", "Add", "Mul", "MatMul", "Gemm")
_BATCH = 4  # images whose layers' values are in memory together


def calibrate(graph: bytes, images: ImageSet) -> Any:
    """Run an fp32 graph over images and record the range of every layer."""
    with tempfile.TemporaryDirectory() as scratch, redirect_stdout(StringIO()):
        path = Path(scratch) / "graph.onnx"
        path.write_bytes(graph)
        calibrator = create_calibrator(
            str(path),
            list(_QUANTIZED),
            augmented_model_path=str(Path(scratch) / "calibrated.onnx"),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"percentile": PERCENTILE},
        )
        for batch in images.batches(_BATCH):
            calibrator.collect_data(_Feed(batch))
        return calibrator.compute_data()


def fp32_choices(graph: bytes) -> list[tuple[str, ...]]:
    """List the convolutions that can be left in fp32: none, the first, the last, both."""
    convolutions = [node.name for node in onnx.load_from_string(graph).graph.node if node.op_type == "Conv"]
    if len(convolutions) < 2:
        return [()]
    first, *_, last = convolutions
    return [(), (first,), (last,), (first, last)]


def quantize(graph: bytes, ranges: Any, fp32_nodes: Sequence[str]) -> bytes:
    """Return the graph with these nodes, its preprocessing and its head in fp32, and the others in int8."""
    model = onnx.load_from_string(graph)
    quantizer = QDQQuantizer(
        onnx.load_from_string(graph),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=[],
        nodes_to_exclude=[*fp32_nodes, *head_nodes(model), *preprocessing_nodes(model)],
        op_types_to_quantize=list(_QUANTIZED),
        extra_options={},
    )
    quantizer.quantize_model()
    return serialize_like(model, quantizer.model.model)


class _Feed(CalibrationDataReader):  # type: ignore[misc]  # the library is untyped
    """Images one by one."""

    def __init__(self, images: Pixels) -> None:
        self._images: Iterator[Any] = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        image = next(self._images, None)
        return None if image is None else {INPUT: image[None]}
