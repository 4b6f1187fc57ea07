"""Products that another model cannot embed: an error names them, or they are deleted with --drop-missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lookalike.v1 import image_pb2, product_pb2
from lookalike_server.config import Settings
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import Floats, Pixels
from lookalike_server.domain.protocols import Session
from lookalike_server.reembed import reembed
from support.fakes import RecordingObserver, Wrapped
from support.reembed_fixtures import (
    DISTINCT,
    NEW,
    QUICK,
    SHARED,
    SHOP,
    CountingModel,
    change,
    embeddings,
    everything,
    fill,
    item,
    reembed_catalog,
    search_results,
    table,
)
from support.serving import Serve, encoded, noise, raw

VECTORS = [
    product_pb2.ProductInput(id=f"vector-{number}", category="Shoes", vectors=[image_pb2.Vector(values=range(1, 49))])
    for number in range(7)
]
TOO_LARGE = encoded(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))  # noise cannot be compressed


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return the folder of the catalog."""
    return tmp_path / "data"


def rejection(data: Path, model: CountingModel | None = None) -> str:
    """Return why this catalog is not reembedded; it must be unchanged."""
    before = everything(data)
    with pytest.raises(LookalikeError) as caught:
        reembed_catalog(data, load_session=model)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert everything(data) == before
    return caught.value.message


async def test_given_as_vectors(serve: Serve, data: Path) -> None:
    """Products upserted as vectors are an error before any work, with their count, the first few, and what to do."""
    async with serve() as served:
        await fill(served, [*SHOP, *VECTORS])
    model = CountingModel()
    message = rejection(data, model)
    assert message.startswith(
        "7 products have an embedding whose image is not stored:"
        " 'vector-0', 'vector-1', 'vector-2', 'vector-3', 'vector-4' and 2 more. "
    )
    assert "--drop-missing" in message
    assert "Upsert them again with their images" in message
    assert model.loaded == 0


@pytest.mark.parametrize("limit", [0, 8000])
async def test_images_that_were_not_stored(serve: Serve, data: Path, limit: int) -> None:
    """Products whose images were not stored, or of which one was too large for that, are an error."""
    async with serve(max_stored_image_bytes=limit) as served:
        await fill(served, [item("small", SHARED), item("both", SHARED, TOO_LARGE)])
    named = "'both', 'small'" if limit == 0 else "'both'"
    assert f"not stored: {named}. " in rejection(data)


async def test_deleted_with_drop_missing(serve: Serve, data: Path) -> None:
    """With --drop-missing they are deleted with their images, which are not embedded, and all others stay."""
    others = [item("half", TOO_LARGE, encoded(noise(60))), item("half-shared", TOO_LARGE, SHARED)]
    async with serve(max_stored_image_bytes=8000) as served:
        await fill(served, [*(each for each in SHOP if each.id != "large"), *VECTORS, *others])
    model = CountingModel()
    done = reembed_catalog(data, load_session=model, drop_missing=True)
    assert (done.products, done.dropped) == (len(SHOP) - 1, len(VECTORS) + len(others))
    assert done.embedded == model.images == DISTINCT - 1
    assert {key for key, _ in embeddings(data)} == {each.id for each in SHOP if each.id != "large"}
    assert {row[0] for row in table(data, "images")} == {row[4] for row in table(data, "embeddings")}
    async with serve(model=NEW) as served:
        assert await search_results(served)


async def test_not_everything_is_deleted(serve: Serve, data: Path) -> None:
    """Where no product would be left none is deleted, also with --drop-missing."""
    async with serve() as served:
        await fill(served, VECTORS)
    before = everything(data)
    with pytest.raises(LookalikeError, match="none of the 7 products can be embedded again"):
        reembed_catalog(data, drop_missing=True)
    assert everything(data) == before


async def test_limits_do_not_apply(serve: Serve, data: Path) -> None:
    """A stored image was accepted once, so the limits for new images do not apply to it."""
    async with serve(max_stored_image_bytes=20_000) as served:
        await fill(served, [item("pixels", raw(noise(1, side=200))), item("file", encoded(noise(2, side=200)))])
    strict = Settings(
        model=NEW, data_dir=data, max_image_bytes=100, max_image_pixels=100, max_stored_image_bytes=0, **QUICK
    )
    done = reembed(strict, drop_missing=False, progress=lambda *_: None, observer=RecordingObserver())
    assert done.embedded == 2


async def test_nothing_to_delete(serve: Serve, data: Path) -> None:
    """Where every image is stored --drop-missing deletes nothing."""
    async with serve() as served:
        await fill(served)
    done = reembed_catalog(data, drop_missing=True)
    assert (done.products, done.dropped) == (len(SHOP), 0)


async def test_an_image_that_is_broken(serve: Serve, data: Path) -> None:
    """A stored image that cannot be decoded is named by its product's id with the reason; the others are not lost."""
    async with serve() as served:
        await fill(served)
    [(sha256,)] = [row[4:5] for row in table(data, "embeddings") if row[1] == "large"]
    change(data, f"UPDATE images SET data = substr(data, 1, length(data) / 2) WHERE sha256 = '{sha256}'")  # noqa: S608
    message = rejection(data)
    assert message.startswith(
        "1 product has an image that cannot be embedded: 'large' (is a broken JPEG: image file is truncated ("
    )
    model = CountingModel()
    done = reembed_catalog(data, load_session=model, drop_missing=True)
    assert (done.products, done.dropped, done.resumed, model.images) == (len(SHOP) - 1, 1, DISTINCT - 1, 0)


async def test_an_image_that_was_lost(serve: Serve, data: Path) -> None:
    """An image that a damaged file has lost counts as one that was not stored."""
    async with serve() as served:
        await fill(served)
    [(sha256,)] = [row[4:5] for row in table(data, "embeddings") if row[1] == "large"]
    change(data, f"PRAGMA foreign_keys = 0; DELETE FROM images WHERE sha256 = '{sha256}'")  # noqa: S608
    assert "not stored: 'large'. " in rejection(data)
    assert reembed_catalog(data, drop_missing=True).dropped == 1


async def test_a_model_that_returns_nan(serve: Serve, data: Path) -> None:
    """An image whose embedding is NaN counts as one that cannot be embedded, and no NaN is stored."""
    async with serve() as served:
        await fill(served)
    message = rejection(data, CountingModel(_NanSession))
    assert message.startswith(
        "1 product has an image that cannot be embedded: 'pixels' (its embedding has values that are not finite). "
    )
    assert all(np.isfinite(np.frombuffer(row[2], "<f4")).all() for row in table(data, "reembedded"))
    assert reembed_catalog(data).products == len(SHOP)


class _NanSession(Wrapped):
    """A model that returns NaN for the image of `pixels`, as one of half precision may for a very bright one."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)

    def run(self, images: Pixels) -> Floats:
        """Run, and return NaN for that image."""
        vectors = self._session.run(images)
        vectors[(images == noise(3)).all(axis=(1, 2, 3))] = np.nan
        return vectors
