"""The Ray Serve server: `python -m benchmarks.peers.ray.serve JSON`. Our EmbeddingService over its gRPC ingress."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any

# Before Ray is imported: it reads them then.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

import numpy as np
import ray
from ray import serve
from ray.serve.config import gRPCOptions

from benchmarks.peers.embedder import Embedder
from benchmarks.processes import free_port
from lookalike.v1 import embedding_service_pb2

_SERVICER = "lookalike.v1.embedding_service_pb2_grpc.add_EmbeddingServiceServicer_to_server"


def _deployment(settings: dict[str, Any]) -> Any:
    waits = {} if settings["wait_ms"] is None else {"batch_wait_timeout_s": settings["wait_ms"] / 1000}

    class Embedding:
        """Each replica has one session."""

        def __init__(self) -> None:
            self._embedder = Embedder.from_settings(settings)

        @serve.batch(max_batch_size=settings["batch"], **waits)  # type: ignore[untyped-decorator, unused-ignore]
        async def _embed(self, images: list[Any]) -> list[Any]:
            return list(self._embedder.run(np.stack(images)))

        async def Embed(self, request: Any) -> Any:  # noqa: N802 - the proto gives the name
            image = request.image
            embedding = await self._embed(self._embedder.pixels(image.encoded or image.rgb.data))
            return embedding_service_pb2.EmbedResponse(embedding=embedding.tolist())

    # by default Ray reserves a core for a replica, which does not limit its threads, but there are only so many
    options: dict[str, Any] = {"num_replicas": settings["workers"], "ray_actor_options": {"num_cpus": 0}}
    if settings["wait_ms"] is not None:
        # At its defaults a replica takes few calls at a time and cannot fill a larger batch.
        options["max_ongoing_requests"] = 64
    return serve.deployment(**options)(Embedding)


def main() -> None:
    """Serve until ended."""
    settings = json.loads(sys.argv[1])
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ray.init(
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
        configure_logging=False,
        object_store_memory=128 << 20,
        runtime_env={"worker_process_setup_hook": "benchmarks.peers.ray.loopback.only"},
    )
    try:
        serve.start(
            http_options={"host": "127.0.0.1", "port": free_port()},
            grpc_options=gRPCOptions(port=settings["port"], grpc_servicer_functions=[_SERVICER]),
        )
        serve.run(_deployment(settings).bind(), name="embedder")
        print("benchmark: ready", flush=True)
        ended.wait()
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
