"""Load tests of the real server, with its cache and its response stats."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lookalike_client import AsyncClient, ProductInput
from lookalike_loadtest.cache_busting import encode_number, split_image
from support.serving import Serve, noise
from support.threaded_server import address, command

SHORT = ("--rate", "40", "--arrivals", "constant", "--warmup", "0", "--duration", "1")
CACHE = 1_000_000


def image_of(file_format: str, seed: int = 1) -> bytes:
    """Make an image of that format; a JPEG lies on its side, as its EXIF orientation says."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    options: dict[str, Any] = {"exif": exif, "quality": 90} if file_format == "JPEG" else {}
    Image.fromarray(noise(seed)).save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
async def test_numbered_images_are_new_and_the_same(serve: Serve, file_format: str) -> None:
    """A number makes an image another one for the cache, and changes not one bit of what the model sees in it."""
    image = image_of(file_format)
    async with serve(embedding_cache_bytes=CACHE) as served, AsyncClient(address(served)) as client:
        plain, known, first, second = [
            await client.embed(each)
            for each in (image, image, *(encode_number(number).join(split_image(image)) for number in (1, 2)))
        ]
    assert [each.stats.cache_hit for each in (plain, known, first, second)] == [False, True, False, False]
    np.testing.assert_array_equal(plain.values, first.values)
    np.testing.assert_array_equal(plain.values, second.values)


async def _load(serve: Serve, folder: Path, *arguments: str) -> dict[str, Any]:
    """Load a new server with the folder's images; return the report."""
    for number in range(4):
        (folder / f"{number}.jpg").write_bytes(image_of("JPEG", number))
    async with serve(embedding_cache_bytes=CACHE) as served:
        done = await command(served, "--json", "load", *SHORT, "--workload", "embed", "--images", folder, *arguments)
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["--raw", "--encoded"])
async def test_the_cache_answers_only_when_it_may(serve: Serve, tmp_path: Path, form: str) -> None:
    """By default the cache knows no image and the model runs for each; with --allow-cache the report has a warning."""
    busting = await _load(serve, tmp_path, form)
    stats = busting["measurement"]["stats"]
    assert stats["cache_hit_share"] == 0
    assert stats["read"] == stats["stages"]["inference"]["count"] == sum(stats["batch_sizes"].values()) == 40
    assert stats["stages"]["inference"]["mean"] < busting["measurement"]["service"]["mean"]
    repeated = await _load(serve, tmp_path, form, "--allow-cache")
    assert repeated["measurement"]["stats"]["cache_hit_share"] >= 0.9
    assert any("came from the server's cache" in each for each in repeated["warnings"])


async def test_all_kinds_are_answered(serve: Serve) -> None:
    """Images, vectors and ids of a real catalog are sent, each with products in its answer."""
    async with serve() as served, AsyncClient(address(served)) as client:
        await client.upsert([ProductInput(f"p{at}", "Shoes", images=[image_of("PNG", at)]) for at in range(5)])
        done = await command(
            served,
            "--json",
            "load",
            *SHORT,
            "--workload",
            "embed=1,search-image=1,search-vector=1,search-id=1",
            "-k",
            "3",
        )
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["measurement"]["answered"] == 40
    assert report["measurement"]["stats"]["empty_answers"] == 0
    assert all(kind["answered"] for kind in report["measurement"]["kinds"].values())
