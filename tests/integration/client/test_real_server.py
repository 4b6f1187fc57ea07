"""The client and the command against the real server, with a tiny real model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc import StatusCode

from lookalike_client import AsyncClient, Client, Cropped, LookalikeError, ProductInput, Region
from support.catalogs import write_catalog
from support.serving import SIDE, Serve, Served, noise
from support.threaded_server import address, command, png


def stripes_catalog(folder: Path, count: int) -> Path:
    """A catalog of images that differ."""
    rows = []
    for seed in range(count):
        (folder / f"{seed}.png").write_bytes(png(seed))
        rows.append((f"p{seed:02}", "Men" if seed % 2 else "Women", f"Product {seed}", f"{seed}.png", "red"))
    return write_catalog(folder, rows)


async def test_an_image_is_the_same_as_bytes_as_pixels_and_as_a_product(served: Served) -> None:
    """Stored as a file, searched by pixels, by bytes and by id: the product is found at distance 0."""
    async with AsyncClient(address(served)) as client:
        statuses = await client.upsert([ProductInput(f"p{seed}", "Men", images=[png(seed)]) for seed in range(4)])
        assert all(status.ok for status in statuses)
        for image in (png(2), noise(2)):
            result = await client.search(image=image, category="Men", k=1)
            assert result.neighbors[0].product.id == "p2"
            assert result.neighbors[0].distance == pytest.approx(0, abs=1e-5)
        embedding = await client.embed(png(2))
        assert embedding.values.shape == ((await client.model()).dim,)
        result = await client.search(vector=embedding.values, all_categories=True, k=1)
        assert result.neighbors[0].product.id == "p2"
        result = await client.search(product_id="p2")
        assert "p2" not in [each.product.id for each in result.neighbors]
        assert result.stats.exact is True


async def test_a_region_is_embedded_alone(served: Served) -> None:
    """A cropped image has the embedding of its part."""
    pixels = np.concatenate([noise(1), noise(2)], axis=1)
    async with AsyncClient(address(served)) as client:
        right = await client.embed(Cropped(pixels, Region(0.5, 0, 1, 1)))
        alone = await client.embed(noise(2))
    assert pixels.shape == (SIDE, 2 * SIDE, 3)
    assert np.allclose(right.values, alone.values, atol=1e-6)


@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        ({"image": b"text", "all_categories": True}, StatusCode.INVALID_ARGUMENT, "image.encoded: "),
        ({"image": noise(1)}, StatusCode.INVALID_ARGUMENT, "category: "),
        ({"vector": [0.0, 1.0], "all_categories": True}, StatusCode.INVALID_ARGUMENT, "vector.values: "),
        ({"product_id": "nothing"}, StatusCode.NOT_FOUND, "nothing"),
        ({"image": noise(1), "all_categories": True, "k": 1001}, StatusCode.INVALID_ARGUMENT, "k: "),
    ],
    ids=["no image", "no category", "wrong length", "unknown product", "k"],
)
async def test_a_rejection_names_the_field(served: Served, query: dict[str, Any], code: StatusCode, text: str) -> None:
    """What the server rejects arrives with its code, the field and a request id."""
    async with AsyncClient(address(served)) as client:
        with pytest.raises(LookalikeError) as caught:
            await client.search(**query)
    assert caught.value.code is code
    assert str(caught.value).startswith(f"{code.name}: ")
    assert text in str(caught.value)
    assert caught.value.request_id


async def test_a_catalog_is_imported_and_paged_and_deleted(served: Served, tmp_path: Path) -> None:
    """`import` brings in what it reports, `products` pages through all of it, `delete` removes it."""
    result = await command(served, "import", stripes_catalog(tmp_path, 20), "--batch", "3")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("imported 20 ")
    async with AsyncClient(address(served)) as client:
        ids = [product.id async for product in client.products(page_size=7)]
        assert ids == [f"p{seed:02}" for seed in range(20)]
        assert [(each.name, each.count) for each in await client.categories()] == [("Men", 10), ("Women", 10)]
        statuses = await client.delete([*ids, "nothing"])
    assert [status.code for status in statuses] == [StatusCode.OK] * 20 + [StatusCode.NOT_FOUND]


async def test_bad_rows_are_listed_with_the_servers_message(served: Served, tmp_path: Path) -> None:
    """A row that the server rejects has its field without the position in the request, and the others are imported."""
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "b.png").write_bytes(b"text")
    path = write_catalog(
        tmp_path,
        [("a", "Men", "t", "a.png", ""), ("b", "Men", "t", "b.png", ""), ("c", "", "t", "a.png", "")],
    )
    result = await command(served, "import", path)
    assert result.exit_code == 1
    assert result.stdout.startswith("imported 1 ")
    _, _, second, third = result.stdout.splitlines()
    assert second.split(maxsplit=3)[:3] == ["3", "b", "INVALID_ARGUMENT:"]
    assert second.split()[3] == "images[0].encoded:"
    assert third.split()[:4] == ["4", "c", "INVALID_ARGUMENT:", "category:"]


async def test_quickstart_runs_on_an_empty_server(served: Served, tmp_path: Path) -> None:
    """An empty server gets the catalog and the query; the second time nothing is imported."""
    path = stripes_catalog(tmp_path, 12)
    result = await command(served, "quickstart", "--catalog", path)
    assert result.exit_code == 0, result.output
    assert "Products similar to 'Product 0' (p00, Women):" in result.stdout
    again = await command(served, "quickstart", "--catalog", path)
    assert "nothing to import: all 12 products" in again.stdout


async def test_readiness_comes_from_the_servers_health(serve: Serve) -> None:
    """The real health service says SERVING to both clients and to `wait`."""
    async with serve() as served:
        async with AsyncClient(address(served)) as client:
            await client.wait_until_ready(60.0)
        with Client(address(served)) as client_without_loop:
            await asyncio.to_thread(client_without_loop.wait_until_ready, 60.0)
        assert (await command(served, "wait")).exit_code == 0
