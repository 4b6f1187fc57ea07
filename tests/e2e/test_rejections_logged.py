"""What an operator reads of calls that were rejected."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import grpc

from lookalike.v1 import embedding_service_pb2, embedding_service_pb2_grpc
from support.paths import MODELS
from support.processes import server_process
from support.serving import noise, raw

METHOD = "/lookalike.v1.EmbeddingService/Embed"


async def test_rejected_calls_are_counted_in_the_log(tmp_path: Path) -> None:
    """Every call that a quota rejected is counted in `calls_rejected`, by its method and reason, and no other is."""
    quotas = tmp_path / "quotas.toml"
    quotas.write_text("[default]\nrequests_per_second = 0.0001\n")
    codes: Counter[grpc.StatusCode] = Counter()
    with server_process(
        MODELS / "tiny", tmp_path / "data", "--provider", "cpu", "--quotas-file", str(quotas)
    ) as server:
        async with grpc.aio.insecure_channel(server.address, [("grpc.enable_retries", 0)]) as channel:
            stub: Any = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
            for _ in range(6):
                try:
                    await stub.Embed(embedding_service_pb2.EmbedRequest(image=raw(noise(0))))
                    codes[grpc.StatusCode.OK] += 1
                except grpc.aio.AioRpcError as error:
                    codes[error.code()] += 1
        assert server.stop(signal.SIGTERM) == 0
    assert codes == {grpc.StatusCode.OK: 1, grpc.StatusCode.RESOURCE_EXHAUSTED: 5}
    # One line, unless the machine is so slow that the minute has passed.
    lines = [json.loads(line) for line in server.log if b'"calls_rejected"' in line]
    assert sum(line["methods"][METHOD]["quota"] for line in lines) == 5
    assert {tuple(line["methods"]) for line in lines} == {(METHOD,)}
