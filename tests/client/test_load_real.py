"""The load tester against the real server, whose cache and receipts it has to deal with."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client.real_server import address, command
from lookalike_client import AsyncClient, ProductInput
from lookalike_client.load.stamps import around_stamp, stamp
from serving import Serve, noise

SHORT = ("--rate", "40", "--arrivals", "constant", "--warmup", "0", "--duration", "1")
CACHE = 1_000_000


def picture(file_format: str, seed: int = 1) -> bytes:
    """A photo of that format; a JPEG lies on its side, and says so."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    options: dict[str, Any] = {"exif": exif, "quality": 90} if file_format == "JPEG" else {}
    Image.fromarray(noise(seed)).save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
async def test_stamped_photos_are_new_and_the_same(serve: Serve, file_format: str) -> None:
    """A stamp makes a photo another one for the cache, and changes not one bit of what the model sees in it."""
    photo = picture(file_format)
    async with serve(cache_bytes=CACHE) as served, AsyncClient(address(served)) as client:
        plain, known, first, second = [
            await client.embed(each)
            for each in (photo, photo, *(stamp(number).join(around_stamp(photo)) for number in (1, 2)))
        ]
    assert [each.receipt.cache_hit for each in (plain, known, first, second)] == [False, True, False, False]
    np.testing.assert_array_equal(plain.values, first.values)
    np.testing.assert_array_equal(plain.values, second.values)


async def _load(serve: Serve, folder: Path, *arguments: str) -> dict[str, Any]:
    """The report of a load on a new server with the folder's photos."""
    for number in range(4):
        (folder / f"{number}.jpg").write_bytes(picture("JPEG", number))
    async with serve(cache_bytes=CACHE) as served:
        done = await command(served, "--json", "load", *SHORT, "--mix", "embed", "--images", folder, *arguments)
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("form", ["--raw", "--encoded"])
async def test_the_cache_answers_only_when_it_may(serve: Serve, tmp_path: Path, form: str) -> None:
    """By default no photo is known to the server, and each receipt has its model run; --repeat is told on."""
    unique = await _load(serve, tmp_path, form)
    receipts = unique["measurement"]["receipts"]
    assert receipts["cache_hit_share"] == 0
    assert receipts["read"] == receipts["stages"]["inference"]["count"] == sum(receipts["batch_sizes"].values()) == 40
    assert receipts["stages"]["inference"]["mean"] < unique["measurement"]["service"]["mean"]
    repeated = await _load(serve, tmp_path, form, "--repeat")
    assert repeated["measurement"]["receipts"]["cache_hit_share"] >= 0.9
    assert any("came from the server's cache" in each for each in repeated["warnings"])


async def test_all_kinds_are_answered(serve: Serve) -> None:
    """Photos, vectors and ids of a real catalogue are asked, each with products in its answer."""
    async with serve() as served, AsyncClient(address(served)) as client:
        await client.upsert([ProductInput(f"p{at}", "Shoes", images=[picture("PNG", at)]) for at in range(5)])
        done = await command(
            served, "--json", "load", *SHORT, "--mix", "embed=1,search-image=1,search-vector=1,search-id=1", "-k", "3"
        )
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["measurement"]["answered"] == 40
    assert report["measurement"]["receipts"]["without_neighbors"] == 0
    assert all(kind["answered"] for kind in report["measurement"]["kinds"].values())
