"""ghz without the proto files: loads Search and Embed, and counts the rejections of a busy server."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from e2e.tools.busy import full
from e2e.tools.programs import Tool, address
from lookalike.v1 import catalog_service_pb2, embedding_service_pb2
from support.serving import HeldModel, Serve, Served, encoded, noise, product, until

CALLS, CONCURRENCY = 200, 8
EMBED = "lookalike.v1.EmbeddingService/Embed"


@pytest.fixture
def ghz() -> Tool:
    """ghz, with the number of calls, their concurrency and their deadline."""
    options = ("--total", str(CALLS), "--concurrency", str(CONCURRENCY), "--timeout", "60s")
    return Tool("ghz", "--insecure", "--format", "json", *options)


async def load(ghz: Tool, served: Served, method: str, *options: str) -> Any:
    """Call a method many times, and return the report."""
    result = await ghz.run("--call", method, *options, address(served))
    assert (result.status, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert (report["count"], report["endReason"]) == (CALLS, "normal")
    return report


def images(folder: Path, count: int) -> str:
    """Write requests with so many images, which ghz sends in turn; return the file's name."""
    files = (encoded(noise(seed)).encoded for seed in range(count))
    requests = [{"image": {"encoded": base64.b64encode(file).decode()}} for file in files]
    (folder / "images.json").write_text(json.dumps(requests))
    return str(folder / "images.json")


@pytest.mark.slow
async def test_search_by_id(served: Served, ghz: Tool) -> None:
    """Every Search succeeds, each for the product that ghz's template generates."""
    products = [product(f"p{number}", number) for number in range(10)]
    await served.catalog.UpsertProducts(catalog_service_pb2.UpsertProductsRequest(products=products))
    body = '{"product_id": "p{{mod .RequestNumber 10}}", "k": 3}'
    report = await load(ghz, served, "lookalike.v1.SearchService/Search", "--data", body)
    assert report["statusCodeDistribution"] == {"OK": CALLS}


@pytest.mark.slow
async def test_embed_from_json(served: Served, ghz: Tool, tmp_path: Path) -> None:
    """Every image of a JSON file is embedded."""
    report = await load(ghz, served, EMBED, "--data-file", images(tmp_path, 16))
    assert report["statusCodeDistribution"] == {"OK": CALLS}


@pytest.mark.slow
async def test_embed_from_binary(served: Served, ghz: Tool, tmp_path: Path) -> None:
    """A file with the serialized request works as well."""
    request = embedding_service_pb2.EmbedRequest(image=encoded(noise(1)))
    (tmp_path / "request.bin").write_bytes(request.SerializeToString())
    report = await load(ghz, served, EMBED, "--binary-file", str(tmp_path / "request.bin"))
    assert report["statusCodeDistribution"] == {"OK": CALLS}


@pytest.mark.slow
async def test_a_full_queue_is_counted(serve: Serve, ghz: Tool, tmp_path: Path) -> None:
    """Calls that a full queue rejects are counted as ResourceExhausted with the server's message; no others fail."""
    model = HeldModel()
    async with serve(load_session=model, max_queue_size=1) as served:
        async with full(served, model):
            running = asyncio.ensure_future(load(ghz, served, EMBED, "--data-file", images(tmp_path, 16)))
            await until(lambda: any(code == "RESOURCE_EXHAUSTED" for _, code, _, _ in served.observer.calls))
        report = await running
        statuses = report["statusCodeDistribution"]
        assert set(statuses) <= {"OK", "ResourceExhausted"}
        assert sum(statuses.values()) == CALLS
        assert statuses["ResourceExhausted"] > 0
        assert all("images are waiting already" in message for message in report["errorDistribution"])
