"""Run an ONNX graph on the CPU by OpenVINO, which not every machine has."""

import importlib
import threading
from typing import Any

import numpy as np

from lookalike_exporter.graph.projection import Embeddings
from lookalike_exporter.graph.runner import GraphRunner
from lookalike_exporter.images import Pixels

_FLOATS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}
_INTEGERS = {"i8", "u8"}
_WEIGHTED = {"Convolution", "FullyConnected", "MatMul"}


class OpenVinoError(Exception):
    """OpenVINO cannot be loaded here, or cannot load or run a graph; the message is one line."""


def load_openvino() -> Any:
    """Import the module `openvino`.

    Raises:
        OpenVinoError: It is missing or does not load.
    """
    try:
        return importlib.import_module("openvino")
    except Exception as error:  # its libraries may be of another processor or system
        raise OpenVinoError(f"openvino cannot be imported: {_last_line(error)}") from error


class OpenVinoRunner(GraphRunner):
    """A graph in OpenVINO.

    Attributes:
        version: OpenVINO's.
        precision: What it computes in, as OpenVINO says after compiling: `fp32` or `bf16`, with `int8+` before it
            where some layers compute in integers.
    """

    def __init__(self, graph: bytes, streams: int = 1) -> None:
        """Compile a serialized ONNX model, for bf16 where the processor has it.

        Args:
            graph: Serialized.
            streams: Runs at once, among which the cores are divided.

        Raises:
            OpenVinoError: OpenVINO is missing, does not load, or rejects the graph.
        """
        openvino = load_openvino()
        try:
            core = openvino.Core()
            settings = {
                "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
                "NUM_STREAMS": streams,
                "INFERENCE_PRECISION_HINT": "bf16",  # without bf16, OpenVINO computes in fp32 and says so
            }
            self._compiled = core.compile_model(core.read_model(graph), "CPU", settings)
            self.version = str(openvino.__version__).split("-")[0]
            self.precision = _precision(self._compiled)
        except Exception as error:  # OpenVINO's errors share no base class but Exception
            raise OpenVinoError(_last_line(error)) from error
        self._requests = threading.local()

    def run(self, images: Pixels) -> Embeddings:
        """Embed [N, height, width, 3] uint8 RGB: [N, dim].

        Raises:
            OpenVinoError: OpenVINO cannot run the graph, or not to finite embeddings.
        """
        try:
            if not hasattr(self._requests, "own"):
                self._requests.own = self._compiled.create_infer_request()
            # A copy: the request's memory is written again by its next run.
            embeddings = np.array(self._requests.own.infer({0: images})[0], np.float32)
        except Exception as error:  # as above
            raise OpenVinoError(_last_line(error)) from error
        if not np.isfinite(embeddings).all():
            raise OpenVinoError("its embeddings are not finite")
        return embeddings


def _precision(compiled: Any) -> str:
    kind = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
    floats = _FLOATS.get(kind, kind)
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if info["layerType"].astype(str) in _WEIGHTED and info["runtimePrecision"].astype(str) in _INTEGERS:
            return f"int8+{floats}"
    return floats


def _last_line(error: Exception) -> str:
    """Return the last line of an error's text, before which OpenVINO lists the lines of its own sources."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
