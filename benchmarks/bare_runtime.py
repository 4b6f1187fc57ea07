"""Runs the model without any server: reads requests from its standard input and prints what was reached.

Its first line says why OpenVINO is not available here, or null. `benchmarks.bare_process` starts it.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.bare_import import decode_and_run
from benchmarks.environment import Model, read_model
from benchmarks.images import raw_image
from benchmarks.peers import openvino_runtime

Pixels = npt.NDArray[np.uint8]

_CACHED = 4  # compiled models: the shapes that are compared in turns; each holds the weights once more


class Runtime(Protocol):
    """The model, compiled for runs side by side.

    Attributes:
        precision: What it computes in.
    """

    precision: str

    def run(self, stream: int, images: Pixels) -> Any:
        """Embed uint8 [batch, height, width, 3] on one of the streams; blocks."""

    def repeat(self, images: Pixels, seconds: float) -> tuple[float, Sequence[float]]:
        """Run on all streams for so long; return the seconds that it took, and those of each run."""


class OnnxRuntime:
    """A session for every stream, each called from a thread."""

    def __init__(self, model: Model, streams: int, threads: int) -> None:
        import onnxruntime

        self.precision = model.precision
        self._input = model.input_name
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._sessions = [
            onnxruntime.InferenceSession(str(model.graph), options, providers=["CPUExecutionProvider"])
            for _ in range(streams)
        ]

    def run(self, stream: int, images: Pixels) -> Any:
        """Run a stream's session."""
        return self._sessions[stream].run(None, {self._input: images})[0]

    def repeat(self, images: Pixels, seconds: float) -> tuple[float, Sequence[float]]:
        """Run every session in a thread."""
        durations: list[float] = []
        start = time.perf_counter()

        def work(stream: int) -> None:
            while (begun := time.perf_counter()) < start + seconds:
                self.run(stream, images)
                durations.append(time.perf_counter() - begun)

        workers = [threading.Thread(target=work, args=(stream,)) for stream in range(len(self._sessions))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return time.perf_counter() - start, durations


class OpenVino:
    """One compiled model with streams of its own, fed by an AsyncInferQueue from inputs that are never copied."""

    def __init__(self, model: Model, batch: int, streams: int, threads: int, precision: str) -> None:
        shape = (batch, model.height, model.width, 3)
        compiled = openvino_runtime.compile_model(model.graph, streams, streams * threads, precision, shape)
        self.precision = openvino_runtime.executed_precision(compiled)
        self._queue = openvino_runtime.openvino().AsyncInferQueue(compiled, streams)
        # those of the queue count themselves as idle when they end, whoever started them
        self._requests = [compiled.create_infer_request() for _ in range(streams)]

    def run(self, stream: int, images: Pixels) -> Any:
        """Run a stream's request."""
        request = self._requests[stream]
        request.set_input_tensor(openvino_runtime.tensor(images))
        request.infer()
        return request.get_output_tensor().data

    def repeat(self, images: Pixels, seconds: float) -> tuple[float, Sequence[float]]:
        """Run whichever request of the queue is idle."""
        for request in self._queue:
            request.set_input_tensor(openvino_runtime.tensor(images))
        durations: list[float] = []
        start = time.perf_counter()
        begun = 0
        while time.perf_counter() < start + seconds:
            idle = self._queue.get_idle_request_id()  # waits for one
            if begun >= len(self._queue):
                durations.append(self._queue[idle].latency / 1e3)
            self._queue.start_async()
            begun += 1
        self._queue.wait_all()
        durations += [request.latency / 1e3 for request in list(self._queue)[: min(begun, len(self._queue))]]
        return time.perf_counter() - start, durations


@lru_cache(_CACHED)
def runtime(model: Model, name: str, batch: int, streams: int, threads: int, precision: str) -> Runtime:
    """Return the model on a runtime, warm: the first run of a shape pays for its memory."""
    loaded: Runtime
    if name == "openvino":
        loaded = OpenVino(model, batch, streams, threads, precision)
    else:
        loaded = OnnxRuntime(model, streams, threads)
    images = _images(model, batch)
    for stream in range(streams):
        loaded.run(stream, images)
    return loaded


def measure(model: Model, shape: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return the images a second of all streams, the median seconds of a run, and the precision."""
    loaded = runtime(model, **shape)
    elapsed, durations = loaded.repeat(_images(model, shape["batch"]), seconds)
    throughput = shape["batch"] * len(durations) / elapsed
    return {"throughput": throughput, "p50": statistics.median(durations), "precision": loaded.precision}


def _images(model: Model, batch: int) -> Pixels:
    base = np.frombuffer(raw_image(model.height, model.width), dtype=np.uint8)
    return np.stack([np.roll(base.reshape(model.height, model.width, 3), at, axis=1) for at in range(batch)])


def main() -> None:
    """Answer until the input ends."""
    model = read_model(Path(sys.argv[1]))
    print(json.dumps({"openvino": openvino_runtime.unavailable_reason(model.graph)}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        shape = request["shape"]
        if "files" in request:
            loaded = runtime(model, **shape)
            answer = decode_and_run(model, loaded.run, shape["batch"], shape["streams"], request["files"])
        else:
            answer = measure(model, shape, request["seconds"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
