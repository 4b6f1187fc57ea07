"""Run an ONNX graph on the CPU."""

import numpy as np
import onnxruntime

from lookalike_exporter.errors import ExportError, first_line
from lookalike_exporter.graph.canonical import INPUT, OUTPUT
from lookalike_exporter.graph.projection import Embeddings
from lookalike_exporter.images import ImageSet, Pixels

BATCH = 8


class Runner:
    """A graph in ONNX Runtime."""

    def __init__(self, graph: bytes) -> None:
        """Load a serialized ONNX model.

        Raises:
            ExportError: ONNX Runtime rejects it.
        """
        try:
            self._session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
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

    def embed(self, images: ImageSet) -> Embeddings:
        """Embed images in batches of `BATCH`: [N, dim]."""
        return np.concatenate([self.run(batch) for batch in images.batches(BATCH)])
