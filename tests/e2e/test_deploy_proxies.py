"""The proxies that deploy/ ships pass on what gRPC needs, and answer for themselves as gRPC does."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from lookalike.v1 import (
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    embedding_service_pb2,
    embedding_service_pb2_grpc,
)
from support.attack.proxies import proxy
from support.certificates import Authority
from support.paths import MODELS, ROOT
from support.processes import server_process
from support.serving import connect, encoded, noise, product, raw, rejected

pytestmark = pytest.mark.slow


@dataclass
class Proxied:
    """A server behind a proxy: its name, its address and stubs to it."""

    name: str
    address: str
    embedding: Any
    catalog: Any


@pytest.fixture(scope="module", params=["nginx", "haproxy"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Run a server behind each proxy; return the proxy's name and address."""
    folder = tmp_path_factory.mktemp(request.param)
    with (
        server_process(MODELS / "tiny", folder / "data", "--intra-op-threads", "1", "--log-level", "debug") as server,
        proxy(request.param, server.address, folder) as (address, _),
    ):
        yield request.param, address


@pytest.fixture
async def proxied(running: tuple[str, str]) -> AsyncIterator[Proxied]:
    """Connect to the proxy."""
    name, address = running
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(connect(address))
        yield Proxied(
            name,
            address,
            embedding_service_pb2_grpc.EmbeddingServiceStub(channel),
            catalog_service_pb2_grpc.CatalogServiceStub(channel),
        )


async def test_errors_keep_their_details(proxied: Proxied) -> None:
    """The status, its details and the request id of a failed call come through."""
    code, message, status = await rejected(proxied.catalog.GetProduct(catalog_service_pb2.GetProductRequest(id="none")))
    assert code == grpc.StatusCode.NOT_FOUND
    assert "none" in message
    assert any(detail.Is(error_details_pb2.ResourceInfo.DESCRIPTOR) for detail in status.details)


async def test_stream_answers_while_it_is_open(proxied: Proxied) -> None:
    """Each item of a stream is answered before the next one is sent, so nothing is buffered either way."""
    stream = proxied.embedding.EmbedStream()
    for at in range(5):
        await stream.write(embedding_service_pb2.EmbedStreamRequest(id=str(at), image=encoded(noise(at))))
        assert (await stream.read()).id == str(at)
    await stream.done_writing()
    assert await stream.read() == grpc.aio.EOF


async def test_long_upload_is_not_cut_off(proxied: Proxied) -> None:
    """An import larger than any limit on a single request passes, because it is a stream."""
    image = raw(noise(1, side=1024))  # 3 MB

    async def requests() -> AsyncIterator[Any]:
        for at in range(24):
            each = product(f"p{at}", 1)
            each.images[0].CopyFrom(image)
            yield catalog_service_pb2.ImportProductsRequest(product=each)

    answers = [answer.result.status.code async for answer in proxied.catalog.ImportProducts(requests())]
    assert answers == [0] * 24


async def test_small_requests_are_limited(proxied: Proxied) -> None:
    """Behind nginx a large body is rejected where a method takes an id only; HAProxy leaves it to the server."""
    if proxied.name != "nginx":
        pytest.skip("HAProxy has no limit on the size of a request without a content-length")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await proxied.catalog.GetProduct(catalog_service_pb2.GetProductRequest(id="x" * 100_000))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than this method takes" in (caught.value.details() or "")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("nginx", {"rate=500r/s": "rate=1r/m", "burst=1000": "burst=4"}),
        ("haproxy", {"http_req_rate(1s)": "http_req_rate(60s)", "sc0_http_req_rate gt 500": "sc0_http_req_rate gt 5"}),
    ],
)
async def test_too_many_calls_learn_when_to_retry(name: str, changes: dict[str, str], tmp_path: Path) -> None:
    """Calls of an address beyond its rate end RESOURCE_EXHAUSTED with RetryInfo, without reaching the server."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(server_process(MODELS / "tiny", tmp_path / "data", "--intra-op-threads", "1"))
        address, _ = stack.enter_context(proxy(name, server.address, tmp_path, changes))
        stub: Any = embedding_service_pb2_grpc.EmbeddingServiceStub(await stack.enter_async_context(connect(address)))
        for _ in range(5):
            await stub.GetModel(embedding_service_pb2.GetModelRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetModel(embedding_service_pb2.GetModelRequest())
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert status.code == 8
    assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)
    assert trailers["grpc-retry-pushback-ms"] == "1000"


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
async def test_a_proxy_ends_tls(name: str, tmp_path: Path) -> None:
    """With the lines that docs/deployment.md has for it, a proxy speaks TLS to callers and none to the server."""
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    (lines,) = re.findall(rf"^```{name}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    authority = Authority()
    files = authority.files(tmp_path)
    (tmp_path / "tls.pem").write_bytes(files.certificate.read_bytes() + files.key.read_bytes())
    shipped = {
        "nginx": "        listen 127.0.0.1:50050 http2 backlog=1024;",
        "haproxy": "    bind 127.0.0.1:50050 proto h2",
    }
    for path, there in {
        "/etc/lookalike/tls.crt": files.certificate,
        "/etc/lookalike/tls.key": files.key,
        "/etc/lookalike/tls.pem": tmp_path / "tls.pem",
        "0.0.0.0": "127.0.0.1",  # noqa: S104 - the sample has it, not the test
    }.items():
        lines = lines.replace(path, str(there))
    async with AsyncExitStack() as stack:
        server = stack.enter_context(server_process(MODELS / "tiny", tmp_path / "data", "--intra-op-threads", "1"))
        address, _ = stack.enter_context(proxy(name, server.address, tmp_path, {shipped[name]: lines}))
        channel = await stack.enter_async_context(authority.channel(address))
        stub: Any = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        assert (await stub.GetModel(embedding_service_pb2.GetModelRequest(), timeout=60)).dim
        plain: Any = embedding_service_pb2_grpc.EmbeddingServiceStub(await stack.enter_async_context(connect(address)))
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await plain.GetModel(embedding_service_pb2.GetModelRequest(), timeout=60)
