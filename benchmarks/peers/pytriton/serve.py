"""The PyTriton server: `python -m benchmarks.peers.pytriton.serve JSON`. Raw pixels in, over KServe v2 gRPC."""

from __future__ import annotations

import json
import signal
import sys
import threading
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers.embedder import Embedder
from benchmarks.processes import free_port


def _infer(embedder: Embedder) -> Any:
    @batch  # type: ignore[untyped-decorator, unused-ignore]  # the library is untyped
    def embed(image: Any) -> dict[str, Any]:
        return {"embedding": embedder.run(image)}

    return embed


def main() -> None:
    """Serve until ended."""
    settings = json.loads(sys.argv[1])
    embedders = [Embedder.from_settings(settings) for _ in range(settings["workers"])]
    one = embedders[0]
    if settings["batch"] == 1:
        config = ModelConfig(batching=True, max_batch_size=1)
    elif settings["wait_ms"] is None:
        config = ModelConfig(batching=True, max_batch_size=settings["batch"])
    else:
        batcher = DynamicBatcher(max_queue_delay_microseconds=int(1000 * settings["wait_ms"]))
        config = ModelConfig(batching=True, max_batch_size=settings["batch"], batcher=batcher)
    addresses = {f"{kind}_address": "127.0.0.1" for kind in ("http", "grpc", "metrics")}
    ports = {"grpc_port": settings["port"], "http_port": free_port(), "metrics_port": free_port()}
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with Triton(config=TritonConfig(**addresses, **ports, log_verbose=0)) as triton:
        triton.bind(
            model_name="embedder",
            infer_func=[_infer(embedder) for embedder in embedders],
            inputs=[Tensor(name="image", dtype=np.uint8, shape=(one.height, one.width, 3))],
            outputs=[Tensor(name="embedding", dtype=np.float32, shape=(one.dim,))],
            config=config,
        )
        triton.run()
        print("benchmark: ready", flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
