"""Run an ONNX graph on the CPU: by ONNX Runtime, or by whatever else is a `GraphRunner`."""

from abc import ABC, abstractmethod

import numpy as np
import onnxruntime

from lookalike_exporter.errors import ExportError, first_line
from lookalike_exporter.graph.canonical import INPUT, OUTPUT
from lookalike_exporter.graph.projection import Embeddings
from lookalike_exporter.images import ImageSet, Pixels

BATCH = 8


class GraphRunner(ABC):
    """A graph in a runtime, whose `version` it names. Several threads may run it at once."""

    version: str

    @abstractmethod
    def run(self, images: Pixels) -> Embeddings:
        """Embed [N, height, width, 3] uint8 RGB: [N, dim]."""

    def embed(self, images: ImageSet) -> Embeddings:
        """Embed images in batches of `BATCH`: [N, dim]."""
        return np.concatenate([self.run(batch) for batch in images.batches(BATCH)])


class Runner(GraphRunner):
    """A graph in ONNX Runtime."""

    version = str(onnxruntime.__version__)

    def __init__(self, graph: bytes, threads: int = 0) -> None:
        """Load a serialized ONNX model.

        Args:
            graph: Serialized.
            threads: Of a run; 0 for one a core.

        Raises:
            ExportError: ONNX Runtime rejects it.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no base class but Exception
            raise ExportError(f"ONNX Runtime cannot load the graph: {first_line(error)}") from error

    def run(self, images: Pixels) -> Embeddings:
        """Embed [N, height, width, 3] uint8 RGB: [N, dim].

        Raises:
            ExportError: ONNX Runtime cannot run the graph.
        """
        try:
            (embeddings,) = self._session.run([OUTPUT], {INPUT: images})
        except Exception as error:  # as above
            raise ExportError(f"ONNX Runtime cannot run the graph: {first_line(error)}") from error
        return np.asarray(embeddings, np.float32)
