"""Files with damage of any kind at any place: always a verdict, never a traceback."""

# Damage is drawn by chance, the same every time.
# ruff: noqa: S311

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from lookalike_server.__main__ import main
from lookalike_server.domain.catalog import EmbeddedProduct, SegmentFile, StoredImage
from lookalike_server.domain.errors import LookalikeError, ServerError
from lookalike_server.inference.manifest import read_model_folder
from lookalike_server.store.sqlite import FILE
from support.paths import MODELS
from support.store_fixtures import embedded, opened, product, vectors

SEEDS = range(50)
GRAPH = "index/0123456789abcdef.graph"


def flip(data: bytes, chance: random.Random) -> bytes:
    """Flip one bit."""
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def zero(data: bytes, chance: random.Random) -> bytes:
    """Make up to four sectors zeros."""
    at = chance.randrange(len(data))
    length = min(len(data) - at, chance.choice([1, 512, 4096, 16384]))
    return data[:at] + bytes(length) + data[at + length :]


def truncate(data: bytes, chance: random.Random) -> bytes:
    """Cut the end off."""
    return data[: chance.randrange(len(data))]


def scramble(data: bytes, chance: random.Random) -> bytes:
    """Overwrite up to a page with noise."""
    at = chance.randrange(len(data))
    length = min(len(data) - at, chance.choice([2, 64, 4096]))
    return data[:at] + chance.randbytes(length) + data[at + length :]


KINDS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    each.__name__: each for each in (flip, zero, truncate, scramble)
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a catalog with everything that one can have: products, images, an index file."""
    folder = tmp_path_factory.mktemp("whole")
    graph = random.Random(0).randbytes(20_000)
    with opened(folder) as store:
        store.upsert_all([(embedded(f"p{number}", float(number), color="red"), None) for number in range(200)]).result()
        for number in range(20):
            data = random.Random(number).randbytes(9_000)
            image = StoredImage(hashlib.sha256(data).hexdigest(), "image/png", data)
            store.upsert(EmbeddedProduct(product(f"i{number}"), vectors(1.0), (image,))).result()
        segment = SegmentFile(Path(GRAPH).name, len(graph), hashlib.sha256(graph).hexdigest())
        store.replace_segments("Shoes", [segment]).result()
    (folder / GRAPH).parent.mkdir()
    (folder / GRAPH).write_bytes(graph)
    assert verdict(folder) == (0, [])
    return folder


def verdict(folder: Path) -> tuple[int, list[str]]:
    """Run `verify`; return its exit status and the problems, of which there are some where it is 1."""
    result = CliRunner().invoke(main, ["verify", "--data-dir", str(folder)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    lines = result.output.splitlines()
    assert lines
    return result.exit_code, [line for line in lines if not line.endswith("no problems")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [FILE, GRAPH])
def test_verify(whole: Path, tmp_path: Path, name: str, kind: str) -> None:
    """A catalog or index file with damage at fifty places each: a verdict every time, and most of it is found.

    What a page does not use is not missed. Nothing but sentences comes from a server's start and reads either.
    """
    data = (whole / name).read_bytes()
    found = 0
    for seed in SEEDS:
        folder = tmp_path / str(seed)
        shutil.copytree(whole, folder)
        damaged = KINDS[kind](data, random.Random(f"{name} {kind} {seed}"))
        (folder / name).write_bytes(damaged)
        status, problems = verdict(folder)
        assert bool(problems) is (status == 1), problems
        found += status
        if name == GRAPH:
            assert status == (damaged != data)
        else:
            start_and_read(folder)
        shutil.rmtree(folder)
    assert found > len(SEEDS) // 3


def start_and_read(folder: Path) -> None:
    """Open a catalog and read all of it; raises nothing but what says what is wrong, and what to do."""
    try:
        with opened(folder) as store:
            names = [f"p{number}" for number in range(200)]
            for read in (lambda: store.products(names), store.counts, store.row_counts, lambda: store.image("i3", 0)):
                try:
                    read()
                except ServerError as error:
                    assert "verify" in error.public.message  # noqa: PT017 - it need not fail
    except LookalikeError as error:
        assert folder.name in error.message  # noqa: PT017


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["model.json", "model.onnx"])
def test_model_folders(tmp_path: Path, name: str, kind: str) -> None:
    """A model folder with damage at fifty places each is rejected by a sentence that names the file, or is unharmed."""
    folder = tmp_path / "model"
    shutil.copytree(MODELS / "tiny", folder)
    data = (folder / name).read_bytes()
    rejected = 0
    for seed in SEEDS:
        damaged = KINDS[kind](data, random.Random(f"{name} {kind} {seed}"))
        (folder / name).write_bytes(damaged)
        try:
            read_model_folder(folder)
        except LookalikeError as error:
            assert str(folder) in error.message  # noqa: PT017 - only some damage is such that it can be seen
            rejected += 1
        else:
            assert name == "model.json" or damaged == data
    assert rejected > len(SEEDS) // 3
