"""An interrupted reembedding: what it embedded is not embedded again, and the catalog is unchanged until the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lookalike.v1 import catalog_service_pb2 as pb
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.protocols import Session
from support.fakes import FailingSession, RecordingObserver
from support.reembed_fixtures import (
    DISTINCT,
    OLD,
    SHOP,
    CountingModel,
    change,
    embeddings,
    everything,
    fill,
    item,
    load_mean_colors,
    mean_colors,
    reembed_catalog,
    search_results,
    table,
)
from support.serving import Serve, encoded, noise

BATCH = 4  # images in each batch of these tests


@pytest.fixture
async def data(serve: Serve, tmp_path: Path) -> Path:
    """Return the folder of a catalog with the shop's products, embedded by the old model."""
    async with serve() as served:
        await fill(served)
    return tmp_path / "data"


def stop_after(batches: int) -> Callable[[int, int], None]:
    """Return a progress callback that interrupts, as Ctrl-C does, once so many batches are durable."""
    calls: list[int] = []

    def progress(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) > batches:
            raise KeyboardInterrupt

    return progress


def test_shared_images_are_embedded_once(data: Path) -> None:
    """An image, and each region of one, is embedded once, however many products have it."""
    model, observer = CountingModel(), RecordingObserver()
    reembed_catalog(data, load_session=model, observer=observer)
    assert model.images == sum(observer.batches) == DISTINCT


def test_a_second_run_does_nothing(data: Path) -> None:
    """A catalog that already has the model's embeddings is left alone, and the model is not even loaded."""
    reembed_catalog(data)
    before, model = everything(data), CountingModel()
    assert not reembed_catalog(data, load_session=model).changed
    assert (everything(data), model.loaded) == (before, 0)


def test_interrupted_and_resumed(data: Path) -> None:
    """What was durable at the interruption is not embedded again, and the progress counts it."""
    before, progress = everything(data), list[tuple[int, int]]()
    with pytest.raises(KeyboardInterrupt):
        reembed_catalog(data, progress=stop_after(1))
    assert everything(data) == before
    assert len(table(data, "reembedded")) == BATCH
    model = CountingModel()
    done = reembed_catalog(data, load_session=model, progress=lambda done, total: progress.append((done, total)))
    assert (done.resumed, done.embedded, model.images) == (BATCH, DISTINCT - BATCH, DISTINCT - BATCH)
    assert progress == [(BATCH, DISTINCT), (DISTINCT, DISTINCT)]


def test_interrupted_at_the_end(data: Path) -> None:
    """When all is embedded and only the last transaction is missing, the model is not loaded again."""
    with pytest.raises(KeyboardInterrupt):
        reembed_catalog(data, progress=stop_after(2))
    model = CountingModel()
    done = reembed_catalog(data, load_session=model)
    assert (done.changed, done.resumed, done.embedded, model.loaded) == (True, DISTINCT, 0, 0)


def test_a_model_that_fails(data: Path) -> None:
    """When the model fails the error says so, the batches before are kept, and the catalog is unchanged."""
    before, sessions = everything(data), list[FailingSession]()

    def wrap(session: Session) -> Session:
        sessions.append(FailingSession(session, lambda run: run == 1))
        return sessions[-1]

    def begin(*_: int) -> None:
        for session in sessions:
            session.begin()

    observer = RecordingObserver()
    with pytest.raises(LookalikeError, match="the model failed on a batch of 4 images: run 1 fails") as caught:
        reembed_catalog(data, load_session=CountingModel(wrap), progress=begin, observer=observer)
    assert caught.value.code is Code.INTERNAL
    assert len(observer.failed_batches) == 1
    assert everything(data) == before
    assert reembed_catalog(data).products == len(SHOP)


def test_a_write_that_fails_at_the_end(data: Path) -> None:
    """When the last transaction fails half-way, nothing of it is left, and the next run needs no model."""
    before = everything(data)
    change(
        data,
        "CREATE TRIGGER full BEFORE INSERT ON embeddings WHEN new.product_id = 'shared-2'"
        " BEGIN SELECT RAISE(ABORT, 'no room'); END",
    )
    with pytest.raises(LookalikeError, match=r"no room\. The catalog is unchanged"):
        reembed_catalog(data)
    assert everything(data) == before
    change(data, "DROP TRIGGER full")
    assert reembed_catalog(data).resumed == DISTINCT


async def test_served_between_two_runs(serve: Serve, data: Path) -> None:
    """After an interruption the catalog can be served and changed, and then only new images are embedded."""
    async with serve() as served:
        before = await search_results(served)
    with pytest.raises(KeyboardInterrupt):
        reembed_catalog(data, progress=stop_after(2))
    async with serve() as served:
        assert await search_results(served) == before
        await fill(served, [item("later", encoded(noise(50)))])
        await served.catalog.DeleteProducts(pb.DeleteProductsRequest(ids=["file"]))
    model = CountingModel()
    done = reembed_catalog(data, load_session=model)
    assert (done.resumed, done.embedded, model.images) == (DISTINCT - 1, 1, 1)
    assert ("later", 0) in embeddings(data)
    assert ("file", 0) not in embeddings(data)


def test_another_model_than_before(data: Path, tmp_path: Path) -> None:
    """After an interruption another model embeds everything, and no vector of the first is left."""
    with pytest.raises(KeyboardInterrupt):
        reembed_catalog(data, progress=stop_after(2))
    done = reembed_catalog(data, mean_colors(tmp_path / "model"), load_mean_colors)
    assert (done.resumed, done.embedded) == (0, DISTINCT)
    assert {len(vector) for vector in embeddings(data).values()} == {3}


def test_the_old_model_in_between(data: Path) -> None:
    """A run with the catalog's own model changes nothing, and an interrupted one for another can still resume."""
    with pytest.raises(KeyboardInterrupt):
        reembed_catalog(data, progress=stop_after(1))
    assert not reembed_catalog(data, OLD).changed
    assert reembed_catalog(data).resumed == BATCH
