"""Serves in this process, keeps its pools busy, and prints how many threads each has: run with MODEL and a new folder.

One line of its output is a JSON object, from the name of a pool to its number of threads; the others are its log.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from lookalike.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    embedding_service_pb2,
    embedding_service_pb2_grpc,
)
from lookalike_server.app import running
from lookalike_server.config import Settings
from support.serving import connect, encoded, noise

_CALLS = 16


async def main(model: Path, data: Path) -> None:
    """Serve, send many calls at once, and count."""
    chosen: dict[str, Any] = {"model": model, "data_dir": data, "listen": "127.0.0.1:0", "provider": "cpu"}
    async with running(Settings(**chosen)) as app, connect(f"127.0.0.1:{app.port}") as channel:
        embed = embedding_service_pb2_grpc.EmbeddingServiceStub(channel).Embed
        list_products = catalog_service_pb2_grpc.CatalogServiceStub(channel).ListProducts
        images = [encoded(noise(seed, 512)) for seed in range(_CALLS)]
        await asyncio.gather(
            *(embed(embedding_service_pb2.EmbedRequest(image=image)) for image in images),
            *(list_products(catalog_service_pb2.ListProductsRequest()) for _ in range(_CALLS)),
        )
        names = (thread.name.partition("_") for thread in threading.enumerate())
        print(json.dumps(Counter(pool for pool, _, _ in names)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
