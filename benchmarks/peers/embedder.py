"""The model as every peer's program runs it: the same graph, the same threads, the same decoding.

Imports nothing but NumPy, Pillow and the runtime: it runs in each peer's own environment.
"""

from __future__ import annotations

import io
import json
import os
import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.peers import openvino_runtime


class Embedder:
    """One or more streams over one graph; calls from several threads run side by side, one on each.

    Args:
        folder: The model folder.
        threads: Threads of one stream, 0 for every core.
        streams: Streams: sessions of ONNX Runtime, infer requests of OpenVINO.
        runtime: "onnxruntime" or "openvino".
        precision: A key of `openvino_runtime.HINTS`, for OpenVINO.
    """

    def __init__(
        self,
        folder: Path,
        threads: int = 0,
        streams: int = 1,
        runtime: str = "onnxruntime",
        precision: str = "auto",
    ) -> None:
        manifest = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        self.height: int = manifest["input"]["height"]
        self.width: int = manifest["input"]["width"]
        self.dim: int = manifest["output"]["dim"]
        graph = folder / manifest["graph"]["file"]
        threads = threads or len(os.sched_getaffinity(0))
        self._run: Any
        if runtime == "openvino":
            compiled = openvino_runtime.compile_model(graph, streams, streams * threads, precision)
            self._run = _OpenVino(compiled, streams)
        else:
            self._run = _OnnxRuntime(graph, manifest["graph"]["input"], streams, threads)
        self.run(np.zeros((streams, self.height, self.width, 3), dtype=np.uint8))

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Embedder:
        """Return the embedder of a peer's settings, as `servers.peers` writes them."""
        options = (settings[name] for name in ("threads", "streams", "runtime", "precision"))
        return cls(Path(settings["model"]), *options)

    def pixels(self, data: bytes) -> Any:
        """Read raw pixels or an image file: uint8 [height, width, 3]."""
        if len(data) == self.height * self.width * 3:
            return np.frombuffer(data, dtype=np.uint8).reshape(self.height, self.width, 3)
        image = Image.open(io.BytesIO(data)).convert("RGB")
        return np.asarray(image.resize((self.width, self.height), Image.Resampling.BILINEAR))

    def run(self, images: Any) -> Any:
        """Embed uint8 [n, height, width, 3]: float32 [n, dim]."""
        return self._run(images)


class _OnnxRuntime:
    """Runs a batch on a session that is free."""

    def __init__(self, graph: Path, input_name: str, sessions: int, threads: int) -> None:
        import onnxruntime

        self._input = input_name
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(sessions):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.log_severity_level = 3
            self._free.put(onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"]))

    def __call__(self, images: Any) -> Any:
        session = self._free.get()
        try:
            (embeddings,) = session.run(None, {self._input: images})
        finally:
            self._free.put(session)
        return embeddings


class _OpenVino:
    """Runs a batch in as many parts as there are streams, side by side: most peers have one batch at a time."""

    def __init__(self, compiled: Any, streams: int) -> None:
        self._streams = streams
        self._beginning = threading.Lock()  # two batches that begin at once could each wait for the other's request
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(streams):
            self._free.put(compiled.create_infer_request())

    def __call__(self, images: Any) -> Any:
        # a tensor is not made over memory that is read-only, such as a request's bytes
        images = np.require(images, requirements=["C", "W"])
        parts = np.array_split(images, min(self._streams, len(images)))
        with self._beginning:
            begun = [self._begin(part) for part in parts]  # the parts live until their runs end
        return np.concatenate([self._end(request) for request in begun])

    def _begin(self, images: Any) -> Any:
        request = self._free.get()
        request.set_input_tensor(openvino_runtime.tensor(images))
        request.start_async()
        return request

    def _end(self, request: Any) -> Any:
        request.wait()
        embeddings = np.array(request.get_output_tensor().data)
        self._free.put(request)
        return embeddings
