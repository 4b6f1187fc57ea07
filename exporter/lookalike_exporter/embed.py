"""Embeds pictures with an ONNX graph on the CPU, and times it."""

import time
from typing import Any

import numpy as np
import onnxruntime

from lookalike_exporter.canonical import INPUT, OUTPUT
from lookalike_exporter.errors import ExportError, first_line
from lookalike_exporter.photos import Photos, Pictures

BATCH = 8

Embeddings = np.ndarray[Any, np.dtype[np.float32]]


class Runner:
    """A graph in ONNX Runtime."""

    def __init__(self, graph: bytes) -> None:
        """Load a serialised ONNX model.

        Raises:
            ExportError: ONNX Runtime refuses it.
        """
        try:
            self._session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no base class but Exception
            raise ExportError(f"ONNX Runtime cannot load the graph: {first_line(error)}") from error

    def run(self, photos: Photos) -> Embeddings:
        """Embed [N, height, width, 3] uint8 RGB: [N, dim].

        Raises:
            ExportError: ONNX Runtime cannot run the graph.
        """
        try:
            (embeddings,) = self._session.run([OUTPUT], {INPUT: photos})
        except Exception as error:  # as above
            raise ExportError(f"ONNX Runtime cannot run the graph: {first_line(error)}") from error
        return np.asarray(embeddings, np.float32)

    def embed(self, pictures: Pictures) -> Embeddings:
        """Embed pictures in batches of `BATCH`: [N, dim]."""
        return np.concatenate([self.run(batch) for batch in pictures.batches(BATCH)])


def images_per_second(runners: dict[str, Runner], photos: Photos, rounds: int = 5) -> dict[str, float]:
    """The median speed of each over the same photos, in turns, so that a noisy machine is noisy for all.

    Args:
        runners: By name.
        photos: [N, height, width, 3] uint8 RGB, one batch.
        rounds: Turns of each.

    Returns:
        Images a second, by name.
    """
    for runner in runners.values():
        runner.run(photos)
    rates: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(rounds):
        for name, runner in runners.items():
            begun, done = time.perf_counter(), 0
            while done < 2 * len(photos) or time.perf_counter() - begun < 0.2:
                runner.run(photos)
                done += len(photos)
            rates[name].append(done / (time.perf_counter() - begun))
    return {name: float(np.median(each)) for name, each in rates.items()}
