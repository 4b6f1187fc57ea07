"""The model as every peer's program runs it: the same graph, the same threads, the same decoding.

Imports nothing but NumPy, ONNX Runtime and Pillow: it runs in each peer's own environment.
"""

from __future__ import annotations

import io
import json
import os
import queue
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image


class Embedder:
    """One or more sessions over one graph; a run takes a free one.

    Args:
        folder: The model folder.
        threads: Threads of one run, 0 for every core.
        sessions: Sessions.
    """

    def __init__(self, folder: Path, threads: int = 0, sessions: int = 1) -> None:
        manifest = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        self.height: int = manifest["input"]["height"]
        self.width: int = manifest["input"]["width"]
        self.dim: int = manifest["output"]["dim"]
        self._input: str = manifest["graph"]["input"]
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(sessions):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
            options.log_severity_level = 3
            graph = folder / manifest["graph"]["file"]
            session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
            session.run(None, {self._input: np.zeros((1, self.height, self.width, 3), dtype=np.uint8)})
            self._free.put(session)

    def pixels(self, data: bytes) -> Any:
        """Read raw pixels or an image file: uint8 [height, width, 3]."""
        if len(data) == self.height * self.width * 3:
            return np.frombuffer(data, dtype=np.uint8).reshape(self.height, self.width, 3)
        image = Image.open(io.BytesIO(data)).convert("RGB")
        return np.asarray(image.resize((self.width, self.height), Image.Resampling.BILINEAR))

    def run(self, images: Any) -> Any:
        """Embed uint8 [n, height, width, 3]: float32 [n, dim]."""
        session = self._free.get()
        try:
            (embeddings,) = session.run(None, {self._input: images})
        finally:
            self._free.put(session)
        return embeddings
