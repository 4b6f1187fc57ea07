"""`kill -9` at random moments of a rebuild, half of them in its last transaction.

Eight kills, or as many as CRASH_KILLS says.
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
from support.reembed_fixtures import NEW, OLD, answers, digest, embeddings, remade
from support.serving import Serve, encoded, noise
from support.store_fixtures import opened, product

KILLS = int(os.environ.get("CRASH_KILLS", "8"))
REBUILD = (sys.executable, "-m", "lookalike_server", "rebuild")
PLANTED = (sys.executable, str(Path(__file__).with_name("split_rebuild.py")), "rebuild")
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
IMAGES, PRODUCTS = 60, 1000  # few images on many products: most of a rebuild is its last transaction

Answers = list[list[tuple[str, int, float]]]


@dataclass(frozen=True, repr=False)  # what waits for a signal would spell out every number
class Shop:
    """A catalog of the old model's, what each model answers from it, and how long its last transaction takes."""

    folder: Path
    vectors: dict[str, dict[tuple[str, int], Any]]
    answers: dict[str, Answers]
    seconds: float


@pytest.fixture
async def shop(serve: Serve, tmp_path: Path) -> Shop:
    """A shop of eight images a product, and the same rebuilt without any kill."""
    old, new = tmp_path / "old", tmp_path / "new"
    _fill(old)
    shutil.copytree(old, new)
    with _start(REBUILD, new) as process:
        begun = _until_the_end(process, IMAGES + 1)
        assert process.wait(60) == 0
        seconds = time.perf_counter() - begun
    return Shop(
        old,
        {"old": embeddings(old), "new": embeddings(new)},
        {"old": await _ask(serve, OLD, old), "new": await _ask(serve, NEW, new)},
        seconds,
    )


async def test_a_killed_rebuild(serve: Serve, shop: Shop, tmp_path: Path) -> None:
    """After each kill the catalog is the old one or the new one, whole, and a rebuild that is let be finishes it."""
    data = _copy(shop, tmp_path / "data")
    chance = random.Random(7)  # noqa: S311 - a test's choices
    states = []
    for number in range(KILLS):
        _kill_once(REBUILD, data, shop, chance, at_the_end=number % 2 == 1)
        assert await _faults(serve, shop, data) == []
        states.append(_state(data))
        if states[-1] == "new":
            shutil.rmtree(data)
            _copy(shop, data)
    assert "old" in states
    remade(data)
    assert (_state(data), await _faults(serve, shop, data)) == ("new", [])


async def test_the_suite_notices_a_split_transaction(serve: Serve, shop: Shop, tmp_path: Path) -> None:
    """The control: where the last transaction is several, a few kills show a mixture."""
    chance = random.Random(7)  # noqa: S311 - a test's choices
    for number in range(10):
        data = _copy(shop, tmp_path / f"data-{number}")
        _kill_once(PLANTED, data, shop, chance, at_the_end=True)
        if await _faults(serve, shop, data):
            return
    pytest.fail("a transaction that was split went unnoticed")


def _fill(folder: Path) -> None:
    """Make the old catalog; through the store, because every image is on many products."""
    model = read_model_folder(OLD)
    session = OnnxSession(model, "cpu", 1)
    reader = ImageDecoder(model.model.height, model.model.width, model.model.resize, 10**6, 10**6)
    chance = np.random.default_rng(3)
    made = []
    for seed in range(IMAGES):
        region = Region(0.0, 0.0, 0.5, 1.0) if seed % 3 == 0 else None
        image = EncodedImage(encoded(noise(seed, side=64)).encoded, region, "image")
        made.append((stored_image_of(image, 10**6), session.run(reader.read(image)[np.newaxis])[0]))
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
    """Return once so many images were embedded, or the last transaction began, and when that was."""
    assert process.stderr is not None
    seen = 0
    for line in process.stderr:
        seen += "batch_completed" in line
        if seen == batches or "embeddings_replacing" in line:
            break
    return time.perf_counter()


def _kill_once(command: tuple[str, ...], data: Path, shop: Shop, chance: random.Random, *, at_the_end: bool) -> None:
    """Reembedding, and kill it after some images, or somewhere in what follows the last of them."""
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
    """What is wrong with a catalog, served by the model that it says it is of."""
    state = _state(data)
    found = await _ask(serve, OLD if state == "old" else NEW, data)
    wrong = [] if found == shop.answers[state] else [f"the {state} model's answers are others"]
    now = embeddings(data)
    wrong += [
        f"{key} is not the {state} model's"
        for key, vector in shop.vectors[state].items()
        if key not in now or not np.array_equal(now[key], vector)
    ]
    return wrong + [f"{key} is too many" for key in now.keys() - shop.vectors[state].keys()]


async def _ask(serve: Serve, model: Path, data: Path) -> Answers:
    async with serve(model=model, data_dir=data, full_scan_threshold=100_000) as served:
        return await answers(served, products=3)
