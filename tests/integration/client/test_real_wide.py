"""Products of dimension 100,352 from files to the real server and back, and messages that are too large."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from grpc import StatusCode

from lookalike_client import AsyncClient, LookalikeError, ProductInput
from support.arrays import features, vectors
from support.serving import Serve
from support.threaded_server import address, command, png
from support.wide_model import DIM, write


async def test_import_search_export_and_back(serve: Serve, tmp_path: Path) -> None:
    """`lookalike import` takes a hundred of them, more than one batch holds, and `export` gives back the same."""
    model = write(tmp_path / "wide")
    rows = vectors(100, DIM)
    ids = [f"p{number:03}" for number in range(100)]
    async with serve(model=model) as served:
        imported = await command(served, "import", *features(tmp_path, ids, rows), "--category", "Men")
        assert imported.exit_code == 0, imported.output
        assert imported.stdout.startswith("imported 100 ")
        async with AsyncClient(address(served)) as client:
            result = await client.search(vector=rows[7] + np.float32(0.01), category="Men", k=3)
            right = np.linalg.norm(rows.astype(np.float64) - rows[7] - np.float32(0.01), axis=1)
            assert [each.product.id for each in result.neighbors] == [ids[each] for each in np.argsort(right)[:3]]
            np.testing.assert_allclose([each.distance for each in result.neighbors], np.sort(right)[:3], rtol=1e-3)
            embedding = await client.embed(png(1))
            assert embedding.values.shape == (DIM,)
            assert (await client.search(image=png(1), category="Men")).neighbors
        exported = await command(served, "export", "--out", tmp_path / "out")
        assert exported.exit_code == 0, exported.output
    assert np.array_equal(np.load(tmp_path / "out" / "vectors.npy"), rows)
    line = exported.stdout.splitlines()[-1].partition(": lookalike ")[2]
    async with serve(model=model, data_dir=tmp_path / "other") as served:
        again = await command(served, *shlex.split(line))
        assert again.stdout.startswith("imported 100 "), again.output


@pytest.mark.slow
async def test_one_message_holds_64_and_a_stream_any_number(serve: Serve, tmp_path: Path) -> None:
    """64 products go in one call; 200 are rejected before anything is sent, with what to do, and that then works."""
    rows = vectors(200, DIM)
    products = [ProductInput(f"p{number:03}", "Men", vectors=[row]) for number, row in enumerate(rows)]
    async with serve(model=write(tmp_path / "wide")) as served, AsyncClient(address(served)) as client:
        assert all(status.ok for status in await client.upsert(products[:64]))
        calls = len(served.observer.calls)
        with pytest.raises(LookalikeError) as caught:
            await client.upsert(products)
        assert caught.value.code is StatusCode.INVALID_ARGUMENT
        assert "the maximum for a message is 67,108,864: send fewer products at once" in caught.value.message
        assert "import_products" in caught.value.message
        assert len(served.observer.calls) == calls
        assert len([status async for status in client.import_products(products) if status.ok]) == 200
        exported = [each async for each in client.export_products()]
        assert np.array_equal(np.concatenate([each.vectors for each in exported]), rows)


@pytest.mark.slow
async def test_a_server_with_a_lower_limit_says_what_to_do(serve: Serve, tmp_path: Path) -> None:
    """What only the server finds too large is rejected with the setting's name."""
    products = [ProductInput(f"p{number}", "Men", vectors=[row]) for number, row in enumerate(vectors(4, DIM))]
    settings = {"model": write(tmp_path / "wide"), "max_message_bytes": 1_000_000}
    async with serve(**settings) as served, AsyncClient(address(served)) as client:
        with pytest.raises(LookalikeError) as caught:
            await client.upsert(products)
        assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
        assert "send fewer products at once" in caught.value.message
        assert "--max-message-bytes" in caught.value.message
        assert all(status.ok for status in await client.upsert(products[:2]))
