"""The mosec server: `python -m benchmarks.peers.mosec.serve JSON`. An image in, float32 bytes out, over HTTP."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from mosec import Server, Worker

from benchmarks.peers.embedder import Embedder

_SETTINGS = "BENCHMARK_SETTINGS"  # workers are processes of their own and know the settings from here


class Embed(Worker):  # type: ignore[misc]  # the library is untyped where the benchmark is checked
    """One process with one session."""

    def __init__(self) -> None:
        """Load the model."""
        super().__init__()
        settings = json.loads(os.environ[_SETTINGS])
        self._batched = settings["batch"] > 1
        self._embedder = Embedder.from_settings(settings)

    def deserialize(self, data: bytes) -> Any:
        """Decode a request's body."""
        return self._embedder.pixels(data)

    def forward(self, data: Any) -> Any:
        """Embed a batch, or a single image where mosec does not batch."""
        return self._embedder.run(np.stack(data)) if self._batched else self._embedder.run(data[np.newaxis])[0]

    def serialize(self, data: Any) -> bytes:
        """Encode a response's body."""
        embedding: bytes = data.tobytes()
        return embedding


def _say_when_ready(port: int, body: bytes) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/inference", body, timeout=5) as answer:
                if answer.status == 200:
                    print("benchmark: ready", flush=True)
                    return
        except OSError:
            time.sleep(0.2)


def main() -> None:
    """Serve until ended."""
    settings = json.loads(sys.argv[1])
    os.environ[_SETTINGS] = sys.argv[1]
    manifest = json.loads((Path(settings["model"]) / "model.json").read_text(encoding="utf-8"))
    body = bytes(manifest["input"]["height"] * manifest["input"]["width"] * 3)
    threading.Thread(target=_say_when_ready, args=(settings["port"], body), daemon=True).start()
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", str(settings["port"]), "--log-level", "warning"]
    server = Server()
    wait = {} if settings["wait_ms"] is None else {"max_wait_time": settings["wait_ms"]}
    server.append_worker(Embed, num=settings["workers"], max_batch_size=settings["batch"], timeout=60, **wait)
    server.run()


if __name__ == "__main__":
    main()
