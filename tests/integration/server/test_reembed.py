"""A rebuilt catalog: what a new one of the new model would be, under new labels, and else as it was."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.inference.manifest import read_model_folder
from lookalike_server.store.migrations import MIGRATIONS
from lookalike_server.store.sqlite import FILE
from support.reembed_fixtures import (
    DISTINCT,
    NEW,
    OLD,
    SHOP,
    CountingModel,
    answers,
    change,
    digest,
    embeddings,
    everything,
    fill,
    load_mean_colors,
    mean_colors,
    remade,
    table,
    unchanging,
)
from support.serving import Serve


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Where the catalog lives."""
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("old", "new"), [("tiny", "tiny-euclidean"), ("tiny-euclidean", "tiny"), ("tiny", "other dim")]
)
async def test_the_same_as_made_anew(serve: Serve, data: Path, tmp_path: Path, old: str, new: str) -> None:
    """A rebuilt catalog has the vectors and gives the answers of one that the new model made from the same images."""
    load = load_mean_colors if new == "other dim" else None
    model = mean_colors(tmp_path / "model") if new == "other dim" else OLD.with_name(new)
    async with serve(model=OLD.with_name(old)) as served:
        await fill(served)
    done = remade(data, model, load)
    assert (done.changed, done.products, done.embedded, done.dropped) == (True, len(SHOP), DISTINCT, 0)
    async with serve(load, model=model) as served:
        rebuilt = await answers(served)
    async with serve(load, model=model, data_dir=tmp_path / "again") as served:
        await fill(served)
        again = await answers(served)
    expected, found = embeddings(tmp_path / "again"), embeddings(data)
    assert found.keys() == expected.keys()
    for key, vector in expected.items():
        np.testing.assert_allclose(found[key], vector, rtol=1e-6, atol=1e-6)
        if new == "tiny":
            assert np.linalg.norm(found[key]) == pytest.approx(1.0, abs=1e-6)
    assert [[each[:2] for each in one] for one in rebuilt] == [[each[:2] for each in one] for one in again]
    for one, another in zip(rebuilt, again, strict=True):
        np.testing.assert_allclose([each[2] for each in one], [each[2] for each in another], rtol=1e-6, atol=1e-6)


async def test_all_but_the_vectors_stays(serve: Serve, data: Path) -> None:
    """Products, attributes, images, the order of images and the names of requests are those from before."""
    async with serve() as served:
        await fill(served, name="monday")
    before = unchanging(data)
    assert len(before["requests"]) == len(SHOP)
    remade(data)
    assert unchanging(data) == before
    model = CountingModel()
    async with serve(model, model=NEW) as served:
        await fill(served, name="monday")
    assert model.images == 0
    assert unchanging(data) == before


async def test_new_labels_in_the_old_order(serve: Serve, data: Path) -> None:
    """No label of an old vector names a new one, and a product that is stored later has a greater one than all."""
    async with serve() as served:
        await fill(served, SHOP[:3])
        await fill(served, SHOP)  # so that labels are missing
    before = table(data, "embeddings")
    remade(data)
    after = table(data, "embeddings")
    assert [row[1:3] for row in after] == [row[1:3] for row in before]
    assert after[0][0] > before[-1][0]
    async with serve(model=NEW) as served:
        await fill(served, SHOP[:1])
    assert table(data, "embeddings")[-1][0] > after[-1][0]


async def test_what_speaks_of_old_vectors_goes(serve: Serve, data: Path) -> None:
    """No file of the index, and nothing of what the rebuild needed, is left in the catalog."""
    async with serve() as served:
        await fill(served)
    change(data, "INSERT INTO segments (category, file, size, sha256) VALUES ('Shoes', 'shoes.hnsw', 1, 'x')")
    remade(data)
    assert table(data, "segments") == table(data, "rebuilt") == []
    assert table(data, "meta") == [("model_digest", read_model_folder(NEW).model.digest)]


async def test_an_older_file(serve: Serve, data: Path) -> None:
    """A catalog of a version that knew nothing of rebuilding is brought up to date and rebuilt."""
    async with serve() as served:
        await fill(served)
    change(data, "DROP TABLE segments; DROP TABLE reembedded; PRAGMA user_version = 2;")
    assert remade(data).embedded == DISTINCT
    with closing(sqlite3.connect(data / FILE)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


async def test_an_empty_catalog(serve: Serve, data: Path) -> None:
    """A catalog without products becomes the new model's without loading that."""
    async with serve():
        pass
    model = CountingModel()
    assert remade(data, load_session=model).products == 0
    assert model.loaded == 0
    assert digest(data) == [("model_digest", read_model_folder(NEW).model.digest)]


async def test_a_catalog_that_is_served(serve: Serve, data: Path) -> None:
    """A folder that a server has is rejected with its name, and the server goes on as if nothing had been."""
    async with serve() as served:
        await fill(served)
        before = await answers(served)
        with pytest.raises(LookalikeError, match="another server is using") as caught:
            remade(data)
        assert str(data) in str(caught.value)
        assert await answers(served) == before


def test_no_catalog(data: Path) -> None:
    """Where there is no catalog none is made."""
    with pytest.raises(LookalikeError, match="is not there") as caught:
        remade(data)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert not data.exists()


async def test_files_that_are_not_taken(serve: Serve, data: Path) -> None:
    """A file of a newer version, and one that is no catalog, are rejected as they are by a server."""
    async with serve() as served:
        await fill(served)
    change(data, "PRAGMA user_version = 99")
    before = everything(data)
    with pytest.raises(LookalikeError, match="newer version of lookalike-server"):
        remade(data)
    assert everything(data) == before
    (data / FILE).write_bytes(b"no catalog " * 1000)
    with pytest.raises(LookalikeError, match=r"cannot use .*not a database"):
        remade(data)


async def test_the_rejection_names_the_way_out(serve: Serve, data: Path) -> None:
    """A server with another model says how the catalog becomes that model's; the one with its own still starts."""
    async with serve() as served:
        await fill(served)
        before = await answers(served)
    with pytest.raises(LookalikeError, match="`lookalike-server reembed`"):
        async with serve(model=NEW):
            pass
    async with serve() as served:
        assert await answers(served) == before
