"""Servers of a page of code: the echo, and a plain grpc.aio server without batching.

`python -m benchmarks.servers.small_servers echo|plain JSON` serves until it is ended and prints its port.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import uvloop

from benchmarks.environment import Model, threads
from benchmarks.processes import serving
from benchmarks.protocols import PROTOCOLS
from benchmarks.servers.base import ServerVariant, Target

_ANSWER = bytes(64)
_SIZES = (("grpc.max_receive_message_length", 64 << 20), ("grpc.so_reuseport", 0))


def echo() -> ServerVariant:
    """Return a server that answers any bytes with few: what gRPC itself costs."""
    return _variant("echo", "", "no model", {})


def plain(
    model: Model,
    *,
    streams: int,
    stream_threads: int,
    variant: str,
    runtime: str = "onnxruntime",
    precision: str = "auto",
) -> ServerVariant:
    """Return a server with one run a call, in a pool of as many threads as there are streams."""
    settings = {
        "model": str(model.folder),
        "streams": streams,
        "threads": stream_threads,
        "runtime": runtime,
        "precision": precision,
    }
    description = f"{runtime}, {streams} stream(s) x {stream_threads or threads()} thread(s)"
    return _variant("plain", variant, description, settings)


def _variant(name: str, variant: str, description: str, settings: dict[str, Any]) -> ServerVariant:
    protocol = "echo" if name == "echo" else "lookalike"

    @contextmanager
    def start() -> Iterator[Target]:
        arguments = [sys.executable, "-m", __name__, name, json.dumps(settings)]
        with serving(arguments) as server:
            port = server.wait_for(lambda line: line.removeprefix("port ") if line.startswith("port ") else None, 120)
            yield Target(protocol, f"127.0.0.1:{port}", server.process.pid)

    return ServerVariant(name, variant, start, description)


async def _serve_echo() -> None:
    async def call(request: bytes, context: Any) -> bytes:
        del request, context
        return _ANSWER

    await _serve("echo", call)


async def _serve_plain(settings: dict[str, Any]) -> None:
    import numpy as np

    from benchmarks.peers.embedder import Embedder
    from lookalike.v1 import embedding_service_pb2

    embedder = Embedder.from_settings(settings)
    pool = ThreadPoolExecutor(settings["streams"])

    def embed(data: bytes) -> bytes:
        image = embedding_service_pb2.EmbedRequest.FromString(data).image
        pixels = embedder.pixels(image.encoded or image.rgb.data)
        (embedding,) = embedder.run(np.expand_dims(pixels, 0))
        return embedding_service_pb2.EmbedResponse(embedding=embedding.tolist()).SerializeToString()

    async def call(request: bytes, context: Any) -> bytes:
        del context
        return await asyncio.get_running_loop().run_in_executor(pool, embed, request)

    await _serve("lookalike", call)


async def _serve(protocol: str, call: Callable[[bytes, Any], Awaitable[bytes]]) -> None:
    service, _, method = PROTOCOLS[protocol].method.lstrip("/").partition("/")
    server = grpc.aio.server(options=_SIZES)
    handler = grpc.method_handlers_generic_handler(service, {method: grpc.unary_unary_rpc_method_handler(call)})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"port {port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve_echo() if sys.argv[1] == "echo" else _serve_plain(json.loads(sys.argv[2])))
