"""A reembedded catalog: as the new model would have made it, with new labels, and otherwise unchanged."""

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
    change,
    digest,
    embeddings,
    everything,
    fill,
    load_mean_colors,
    mean_colors,
    preserved,
    reembed_catalog,
    search_results,
    table,
)
from support.serving import Serve

VERSION_2 = """
    DROP TABLE segments; DROP TABLE reembedded; ALTER TABLE embeddings DROP COLUMN crc32;
    DROP INDEX idempotency_keys_by_age;
    ALTER TABLE idempotency_keys RENAME COLUMN key TO request_id;
    ALTER TABLE idempotency_keys RENAME TO requests;
    CREATE INDEX requests_by_age ON requests (done_at);
    DROP INDEX embeddings_by_image;
    ALTER TABLE embeddings RENAME COLUMN image TO picture; -- codespell:ignore
    ALTER TABLE images RENAME TO pictures; -- codespell:ignore
    CREATE INDEX embeddings_by_picture ON embeddings (picture) WHERE picture IS NOT NULL; -- codespell:ignore
    PRAGMA user_version = 2;
"""
"""Turns a catalog into one of version 2, which could not be reembedded."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return the folder of the catalog."""
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("old", "new"), [("tiny", "tiny-euclidean"), ("tiny-euclidean", "tiny"), ("tiny", "other dim")]
)
async def test_the_same_as_upserted_with_the_new_model(
    serve: Serve, data: Path, tmp_path: Path, old: str, new: str
) -> None:
    """A reembedded catalog has the vectors and the search results of one that the new model made from these images."""
    load = load_mean_colors if new == "other dim" else None
    model = mean_colors(tmp_path / "model") if new == "other dim" else OLD.with_name(new)
    async with serve(model=OLD.with_name(old)) as served:
        await fill(served)
    done = reembed_catalog(data, model, load)
    assert (done.changed, done.products, done.embedded, done.dropped) == (True, len(SHOP), DISTINCT, 0)
    async with serve(load, model=model) as served:
        reembedded = await search_results(served)
    async with serve(load, model=model, data_dir=tmp_path / "again") as served:
        await fill(served)
        upserted = await search_results(served)
    expected, found = embeddings(tmp_path / "again"), embeddings(data)
    assert found.keys() == expected.keys()
    for key, vector in expected.items():
        np.testing.assert_allclose(found[key], vector, rtol=1e-6, atol=1e-6)
        if new == "tiny":
            assert np.linalg.norm(found[key]) == pytest.approx(1.0, abs=1e-6)
    assert [[each[:2] for each in one] for one in reembedded] == [[each[:2] for each in one] for one in upserted]
    for one, another in zip(reembedded, upserted, strict=True):
        np.testing.assert_allclose([each[2] for each in one], [each[2] for each in another], rtol=1e-6, atol=1e-6)


async def test_all_but_the_vectors_stays(serve: Serve, data: Path) -> None:
    """Products, attributes, images, the order of images and idempotency keys are unchanged."""
    async with serve() as served:
        await fill(served, idempotency_key="monday")
    before = preserved(data)
    assert len(before["idempotency_keys"]) == len(SHOP)
    reembed_catalog(data)
    assert preserved(data) == before
    model = CountingModel()
    async with serve(model, model=NEW) as served:
        await fill(served, idempotency_key="monday")
    assert model.images == 0
    assert preserved(data) == before


async def test_new_labels_in_the_old_order(serve: Serve, data: Path) -> None:
    """No label of an old vector is reused, and a product that is stored later has a greater one than all."""
    async with serve() as served:
        await fill(served, SHOP[:3])
        await fill(served, SHOP)  # so that labels are missing
    before = table(data, "embeddings")
    reembed_catalog(data)
    after = table(data, "embeddings")
    assert [row[1:3] for row in after] == [row[1:3] for row in before]
    assert after[0][0] > before[-1][0]
    async with serve(model=NEW) as served:
        await fill(served, SHOP[:1])
    assert table(data, "embeddings")[-1][0] > after[-1][0]


async def test_nothing_of_the_old_vectors_is_left(serve: Serve, data: Path) -> None:
    """The catalog lists no file of the old index, and no vector that the reembedding stored on its way."""
    async with serve() as served:
        await fill(served)
    change(data, "INSERT INTO segments (category, file, size, sha256) VALUES ('Shoes', 'shoes.hnsw', 1, 'x')")
    reembed_catalog(data)
    assert table(data, "segments") == table(data, "reembedded") == []
    assert table(data, "meta") == [("model_digest", read_model_folder(NEW).model.digest)]


async def test_an_older_file(serve: Serve, data: Path) -> None:
    """A catalog of a version without reembedding is migrated and reembedded."""
    async with serve() as served:
        await fill(served)
    change(data, VERSION_2)
    assert reembed_catalog(data).embedded == DISTINCT
    with closing(sqlite3.connect(data / FILE)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


async def test_an_empty_catalog(serve: Serve, data: Path) -> None:
    """A catalog without products is bound to the new model without loading it."""
    async with serve():
        pass
    model = CountingModel()
    assert reembed_catalog(data, load_session=model).products == 0
    assert model.loaded == 0
    assert digest(data) == [("model_digest", read_model_folder(NEW).model.digest)]


async def test_a_catalog_that_is_served(serve: Serve, data: Path) -> None:
    """The folder of a running server is rejected by name, and the server is not affected."""
    async with serve() as served:
        await fill(served)
        before = await search_results(served)
        with pytest.raises(LookalikeError, match="another server is using") as caught:
            reembed_catalog(data)
        assert str(data) in str(caught.value)
        assert await search_results(served) == before


def test_no_catalog(data: Path) -> None:
    """Where there is no catalog none is created."""
    with pytest.raises(LookalikeError, match="does not exist") as caught:
        reembed_catalog(data)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert not data.exists()


async def test_files_that_are_rejected(serve: Serve, data: Path) -> None:
    """A file of a newer version, and one that is no catalog, are rejected, as a server does."""
    async with serve() as served:
        await fill(served)
    change(data, "PRAGMA user_version = 99")
    before = everything(data)
    with pytest.raises(LookalikeError, match="newer version of lookalike-server"):
        reembed_catalog(data)
    assert everything(data) == before
    (data / FILE).write_bytes(b"no catalog " * 1000)
    with pytest.raises(LookalikeError, match=r"cannot use .*not a database"):
        reembed_catalog(data)


async def test_the_error_says_what_to_do(serve: Serve, data: Path) -> None:
    """A server with another model names the command that reembeds; one with the catalog's own model still starts."""
    async with serve() as served:
        await fill(served)
        before = await search_results(served)
    with pytest.raises(LookalikeError, match="`lookalike-server reembed`"):
        async with serve(model=NEW):
            pass
    async with serve() as served:
        assert await search_results(served) == before
