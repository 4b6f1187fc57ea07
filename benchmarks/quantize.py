"""Makes an int8 model folder from an fp32 one: `python -m benchmarks.quantize models/NAME models/NAME-int8`.

For speed only. It calibrates on a few generated images and checks no accuracy: an int8 model for real use comes from
the exporter.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.environment import Model, read_model
from benchmarks.images import raw_image

_IMAGES = 8


class _Images(CalibrationDataReader):  # type: ignore[misc]  # the library is untyped
    """A few images of the model's size."""

    def __init__(self, model: Model) -> None:
        self._feeds: Iterator[dict[str, Any]] = iter([{model.input_name: image} for image in _images(model)])

    def get_next(self) -> dict[str, Any] | None:
        """Return the next image, or None after the last."""
        return next(self._feeds, None)


def quantize(source: Path, target: Path) -> None:
    """Write an int8 (QDQ, per channel) copy of a model folder."""
    model = read_model(source)
    target.mkdir(parents=True, exist_ok=True)
    graph = target / "model.onnx"
    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(str(model.graph), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(graph),
            _Images(model),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=[
                "Conv",
                "Add",
                "MaxPool",
                "Relu",
                "GlobalAveragePool",
                "ReduceMean",
                "MatMul",
                "Gemm",
            ],
        )
    manifest = json.loads((source / "model.json").read_text(encoding="utf-8"))
    manifest["name"] = f"{manifest['name']}-int8"
    manifest["precision"] = "int8"
    manifest["graph"]["file"] = graph.name
    manifest["graph"]["sha256"] = hashlib.sha256(graph.read_bytes()).hexdigest()
    manifest.pop("parity", None)  # this graph's was not measured
    (target / "model.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _images(model: Model) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    base = np.frombuffer(raw_image(model.height, model.width), dtype=np.uint8)
    image = base.reshape(1, model.height, model.width, 3)
    for at in range(_IMAGES):
        # shifted, mirrored and with its colors swapped: enough to see each layer's range
        yield np.ascontiguousarray(np.roll(image, 17 * at, axis=2)[..., :: -1 if at % 2 else 1])


if __name__ == "__main__":
    quantize(Path(sys.argv[1]), Path(sys.argv[2]))
