"""ghz, without the proto files: loads Search and Embed, and counts a busy server's rejections as what they are."""

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

CALLS, CALLERS = 200, 8
EMBED = "lookalike.v1.EmbeddingService/Embed"


@pytest.fixture
def ghz() -> Tool:
    """The tool, and how much it asks; it waits at most so many seconds for an answer."""
    amount = ("--total", str(CALLS), "--concurrency", str(CALLERS), "--timeout", "60s")
    return Tool("ghz", "--insecure", "--format", "json", *amount)


async def load(ghz: Tool, served: Served, method: str, *options: str) -> Any:
    """Have it call a method over and over, and return its report."""
    said = await ghz.run("--call", method, *options, address(served))
    assert (said.status, said.errors) == (0, "")
    report = json.loads(said.output)
    assert (report["count"], report["endReason"]) == (CALLS, "normal")
    return report


def images(folder: Path, count: int) -> str:
    """Write requests with so many images, which ghz sends in turn, and return the file's name."""
    files = (encoded(noise(seed)).encoded for seed in range(count))
    requests = [{"image": {"encoded": base64.b64encode(file).decode()}} for file in files]
    (folder / "images.json").write_text(json.dumps(requests))
    return str(folder / "images.json")


async def test_search_by_id(served: Served, ghz: Tool) -> None:
    """Every one of many Searches is answered, each for the product that ghz's template makes up."""
    goods = [product(f"p{number}", number) for number in range(10)]
    await served.catalog.UpsertProducts(catalog_service_pb2.UpsertProductsRequest(products=goods))
    body = '{"product_id": "p{{mod .RequestNumber 10}}", "k": 3}'
    report = await load(ghz, served, "lookalike.v1.SearchService/Search", "--data-dir", body)
    assert report["statusCodeDistribution"] == {"OK": CALLS}


async def test_embed_from_json(served: Served, ghz: Tool, tmp_path: Path) -> None:
    """Every one of many images in a file of JSON is embedded."""
    report = await load(ghz, served, EMBED, "--data-file", images(tmp_path, 16))
    assert report["statusCodeDistribution"] == {"OK": CALLS}


async def test_embed_from_binary(served: Served, ghz: Tool, tmp_path: Path) -> None:
    """A file that holds the request as it goes over the wire serves as well."""
    request = embedding_service_pb2.EmbedRequest(image=encoded(noise(1)))
    (tmp_path / "request.bin").write_bytes(request.SerializeToString())
    report = await load(ghz, served, EMBED, "--binary-file", str(tmp_path / "request.bin"))
    assert report["statusCodeDistribution"] == {"OK": CALLS}


async def test_full_queue_is_counted_as_such(serve: Serve, ghz: Tool, tmp_path: Path) -> None:
    """What a full queue rejects is counted as ResourceExhausted with the server's words, and nothing else fails."""
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
        assert all("images are waiting already" in words for words in report["errorDistribution"])
