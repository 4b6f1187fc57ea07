"""Features in and out of the real server: what is exported and imported again is searched as before."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from lookalike_client import AsyncClient, Product, ProductInput, SearchResult
from support.arrays import features, vectors
from support.serving import Serve, Served
from support.threaded_server import address, command, png

DIM = 48  # of the tiny model


def products() -> list[ProductInput]:
    """Products of images and of vectors, in two categories, with titles that are hard for files."""
    made = [
        ProductInput(
            f"image/{number}",
            "Men" if number % 3 else "Wörter, mit Komma",  # codespell:ignore
            title=[" plain ", 'quoted "and", comma', " two\nlines\r\n", "靴 👟"][number % 4],
            image_uri=f"images/{number}.png",
            attributes={"color": ["red", "bl;ue"][number % 2], f"only {number}": "a\tb"},
            images=[png(number + 100 * image) for image in range(1 + number % 3)],
        )
        for number in range(20)
    ]
    rows = vectors(80, DIM)
    made += [
        ProductInput(f"vector {number:02}", "Men", vectors=list(rows[number : number + 1 + number % 8]))
        for number in range(40)
    ]
    return made


async def catalog(served: Served) -> list[Product]:
    """All products of a server."""
    async with AsyncClient(address(served)) as client:
        return [product async for product in client.products()]


async def results(served: Served) -> list[SearchResult]:
    """Searches by vector and by product, in a category and in all of them."""
    async with AsyncClient(address(served)) as client:
        found = [await client.search(vector=row, all_categories=True, k=50) for row in vectors(5, DIM)]
        found += [await client.search(product_id=f"image/{number}", k=50) for number in range(4)]
        found.append(await client.search(product_id="vector 07", all_categories=True, k=60, collapse_duplicates=True))
        return found


async def test_there_and_back_again(serve: Serve, tmp_path: Path) -> None:
    """Exported and imported into an empty server, products, images' order and every search result are the same."""
    out = tmp_path / "out"
    async with serve() as served:
        async with AsyncClient(address(served)) as client:
            assert all(status.ok for status in await client.upsert(products()))
        stored, expected = await catalog(served), await results(served)
        exported = await command(served, "export", "--out", out)
        assert exported.exit_code == 0, exported.output
    line = exported.stdout.splitlines()[-1].partition(": lookalike ")[2]
    async with serve(data_dir=tmp_path / "other") as served:
        imported = await command(served, *shlex.split(line), "--batch", "7")
        assert imported.exit_code == 0, imported.output
        assert imported.stdout.startswith("imported 60 ")
        assert await catalog(served) == stored
        for before, after in zip(expected, await results(served), strict=True):
            assert [(each.product, each.image_index, each.duplicates) for each in after.neighbors] == [
                (each.product, each.image_index, each.duplicates) for each in before.neighbors
            ]
            assert np.allclose(
                [each.distance for each in after.neighbors], [each.distance for each in before.neighbors], atol=1e-6
            )
        again = tmp_path / "again"
        await command(served, "export", "--out", again)
    for name in ("ids.npy", "products.csv"):
        assert (again / name).read_bytes() == (out / name).read_bytes()
    assert np.allclose(np.load(again / "vectors.npy"), np.load(out / "vectors.npy"), atol=1e-6)


async def test_parquet_holds_what_the_arrays_hold(served: Served, tmp_path: Path) -> None:
    """Both formats have the same rows in the same order; Parquet has every attribute too."""
    several = [*products(), ProductInput("odd", "Men", attributes={"title": "x", "empty": ""}, images=[png(1)])]
    async with AsyncClient(address(served)) as client:
        await client.upsert(several)
    await command(served, "export", "--out", tmp_path)
    done = await command(served, "--json", "export", "--out", tmp_path / "all.parquet")
    assert json.loads(done.stdout)["products"] == len(several)
    rows = pyarrow.parquet.read_table(tmp_path / "all.parquet").to_pylist()
    assert [row["id"] for row in rows] == np.load(tmp_path / "ids.npy").tolist()
    assert np.array_equal([row["vector"] for row in rows], np.load(tmp_path / "vectors.npy"))
    stored = {product.id: product for product in await catalog(served)}
    for row in rows:
        product = stored[row["id"]]
        assert (row["category"], row["title"], row["image_uri"]) == (
            product.category,
            product.title,
            product.image_uri,
        )
        assert dict(row["attributes"]) == product.attributes


async def test_images_that_stand_apart_are_searched_as_one_product(served: Served, tmp_path: Path) -> None:
    """Rows of one id are images in their order: a query like the third finds the product at index 2, once."""
    values = vectors(6, DIM)
    arguments = features(tmp_path, ["a", "b", "a", "c", "b", "a"], values.astype(np.float64))
    assert (await command(served, "import", *arguments, "--category", "Men")).exit_code == 0
    async with AsyncClient(address(served)) as client:
        result = await client.search(vector=values[5], category="Men")
        assert (result.neighbors[0].product.id, result.neighbors[0].image_index) == ("a", 2)
        assert result.neighbors[0].distance == pytest.approx(0, abs=1e-6)
        assert sorted(each.product.id for each in result.neighbors) == ["a", "b", "c"]


@pytest.mark.slow
async def test_several_thousand_products_over_streams(served: Served, tmp_path: Path) -> None:
    """Three thousand rows are imported over concurrent streams, and exported over one; a second import skips all."""
    values = vectors(3000, DIM)
    arguments = [*features(tmp_path, [f"p{number:04}" for number in range(3000)], values), "--category", "Men"]
    done = await command(served, "--json", "import", *arguments)
    assert json.loads(done.stdout)["imported"] == 3000
    again = await command(served, "--json", "import", *arguments, "--skip-existing")
    assert json.loads(again.stdout)["skipped"] == 3000
    async with AsyncClient(address(served)) as client:
        exported = [each async for each in client.export_products("Men")]
    units = values / np.linalg.norm(values, axis=1, keepdims=True)
    assert np.allclose(np.concatenate([each.vectors for each in exported]), units, atol=1e-6)


async def test_vectors_of_another_model(served: Served, tmp_path: Path) -> None:
    """Vectors of another dimension than the model's are rejected with both dimensions, and nothing is stored."""
    result = await command(served, "import", *features(tmp_path, ["a", "b"], vectors(2, 2048)), "--category", "Men")
    assert result.exit_code == 1
    assert "has vectors of dimension 2048" in result.stderr
    assert f"model tiny has dimension {DIM}" in result.stderr
    assert await catalog(served) == []
