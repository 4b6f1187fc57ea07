"""`kill -9` of the `reembed` command at random moments, half of them in its last transaction.

CRASH_KILLS sets how many; eight by default.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike_server.domain.catalog import EmbeddedProduct
from lookalike_server.domain.inference import EncodedImage, Region
from lookalike_server.inference.image_decoding import ImageDecoder
from lookalike_server.inference.manifest import read_model_folder
from lookalike_server.inference.onnx_session import OnnxSession
from lookalike_server.inference.stored_image import stored_image_of
from support.reembed_fixtures import NEW, OLD, digest, embeddings, reembed_catalog, search_results
from support.serving import Serve, encoded, noise
from support.store_fixtures import opened, product

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("CRASH_KILLS", "8"))
REEMBED = (sys.executable, "-m", "lookalike_server", "reembed")
PLANTED = (sys.executable, str(Path(__file__).with_name("split_reembed.py")), "reembed")
SETTINGS = (
    "--intra-op-threads",
    "1",
    "--max-concurrent-batches",
    "1",
    "--preferred-batch-size",
    "1",
    "--log-format",
    "json",
    "--log-level",
    "debug",
)
IMAGES, PRODUCTS = 60, 1000  # few images in many products: most of the time goes to the last transaction

Answers = list[list[tuple[str, int, float]]]


@dataclass(frozen=True, repr=False)  # a repr would spell out every vector
class Shop:
    """A catalog of the old model, the search results of each model, and the duration of the last transaction."""

    folder: Path
    vectors: dict[str, dict[tuple[str, int], Any]]
    search_results: dict[str, Answers]
    seconds: float


@pytest.fixture
async def shop(serve: Serve, tmp_path: Path) -> Shop:
    """Return a shop with eight images per product, and the results after an uninterrupted run."""
    old, new = tmp_path / "old", tmp_path / "new"
    _fill(old)
    shutil.copytree(old, new)
    with _start(REEMBED, new) as process:
        start = _until_the_end(process, IMAGES + 1)
        assert process.wait(60) == 0
        seconds = time.perf_counter() - start
    return Shop(
        old,
        {"old": embeddings(old), "new": embeddings(new)},
        {"old": await _ask(serve, OLD, old), "new": await _ask(serve, NEW, new)},
        seconds,
    )


async def test_a_killed_run(serve: Serve, shop: Shop, tmp_path: Path) -> None:
    """After each kill the catalog is entirely the old one or the new one, and an uninterrupted run finishes it."""
    data = _copy(shop, tmp_path / "data")
    chance = random.Random(7)  # noqa: S311 - a test's choices
    states = []
    for number in range(KILLS):
        _kill_once(REEMBED, data, shop, chance, at_the_end=number % 2 == 1)
        assert await _faults(serve, shop, data) == []
        states.append(_state(data))
        if states[-1] == "new":
            shutil.rmtree(data)
            _copy(shop, data)
    assert "old" in states
    reembed_catalog(data)
    assert (_state(data), await _faults(serve, shop, data)) == ("new", [])


async def test_the_suite_notices_a_split_transaction(serve: Serve, shop: Shop, tmp_path: Path) -> None:
    """The control: if the last transaction is split, a few kills show a mixture."""
    chance = random.Random(7)  # noqa: S311 - a test's choices
    for number in range(10):
        data = _copy(shop, tmp_path / f"data-{number}")
        _kill_once(PLANTED, data, shop, chance, at_the_end=True)
        if await _faults(serve, shop, data):
            return
    pytest.fail("a transaction that was split went unnoticed")


def _fill(folder: Path) -> None:
    """Make the old catalog; by the store, because every image is in many products."""
    model = read_model_folder(OLD)
    session = OnnxSession(model, "cpu", 1)
    decoder = ImageDecoder(model.model.height, model.model.width, model.model.resize, 10**6, 10**6)
    chance = np.random.default_rng(3)
    made = []
    for seed in range(IMAGES):
        region = Region(0.0, 0.0, 0.5, 1.0) if seed % 3 == 0 else None
        image = EncodedImage(encoded(noise(seed, side=64)).encoded, region, "image")
        made.append((stored_image_of(image, 10**6), session.run(decoder.decode(image)[np.newaxis])[0]))
    with opened(folder, model.model) as store:
        waiting = []
        for number in range(PRODUCTS):
            own = [made[(number + each) % IMAGES] for each in chance.permutation(8)]
            waiting.append(
                store.upsert(
                    EmbeddedProduct(
                        product(f"p{number:04}"), np.stack([vector for _, vector in own]), [each for each, _ in own]
                    )
                )
            )
        for future in waiting:
            future.result(timeout=60)


def _start(command: tuple[str, ...], data: Path) -> subprocess.Popen[str]:
    words = (*command, "--model", str(NEW), "--data-dir", str(data), *SETTINGS)
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _until_the_end(process: subprocess.Popen[str], batches: int) -> float:
    """Wait until `batches` images are embedded or the last transaction begins, and return the time."""
    assert process.stderr is not None
    seen = 0
    for line in process.stderr:
        seen += "batch_completed" in line
        if seen == batches or "embeddings_replacing" in line:
            break
    return time.perf_counter()


def _kill_once(command: tuple[str, ...], data: Path, shop: Shop, chance: random.Random, *, at_the_end: bool) -> None:
    """Start a run, and kill it after some images, or at a random moment after the last of them."""
    with _start(command, data) as process:
        _until_the_end(process, IMAGES + 1 if at_the_end else chance.randint(1, IMAGES))
        if at_the_end:
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.random() * shop.seconds)
        process.kill()


def _copy(shop: Shop, data: Path) -> Path:
    shutil.copytree(shop.folder, data)
    return data


def _state(data: Path) -> str:
    return "old" if digest(data)[0][1] == read_model_folder(OLD).model.digest else "new"


async def _faults(serve: Serve, shop: Shop, data: Path) -> list[str]:
    """Serve a catalog with the model that it is bound to, and return what is wrong."""
    state = _state(data)
    found = await _ask(serve, OLD if state == "old" else NEW, data)
    wrong = [] if found == shop.search_results[state] else [f"the {state} model's results differ"]
    now = embeddings(data)
    wrong += [
        f"{key} is not the {state} model's"
        for key, vector in shop.vectors[state].items()
        if key not in now or not np.array_equal(now[key], vector)
    ]
    return wrong + [f"{key} is unexpected" for key in now.keys() - shop.vectors[state].keys()]


async def _ask(serve: Serve, model: Path, data: Path) -> Answers:
    async with serve(model=model, data_dir=data, full_scan_threshold=100_000) as served:
        return await search_results(served, products=3)
