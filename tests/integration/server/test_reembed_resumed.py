"""What a rebuild does not do: what was done before, by itself or by one that was stopped, and anything twice."""

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
    answers,
    change,
    embeddings,
    everything,
    fill,
    item,
    load_mean_colors,
    mean_colors,
    remade,
    table,
)
from support.serving import Serve, encoded, noise

BATCH = 4  # the images of a run in these tests


@pytest.fixture
async def data(serve: Serve, tmp_path: Path) -> Path:
    """The shop, as the old model left it."""
    async with serve() as served:
        await fill(served)
    return tmp_path / "data"


def stop_after(batches: int) -> Callable[[int, int], None]:
    """What to tell the progress to, to have a rebuild stopped by Ctrl-C once so many batches are on disk."""
    told: list[int] = []

    def progress(done: int, of: int) -> None:
        told.append(done)
        if len(told) > batches:
            raise KeyboardInterrupt

    return progress


def test_shared_images_are_embedded_once(data: Path) -> None:
    """An image, and each region of one, is seen by the model once, however many products have it."""
    model, observer = CountingModel(), RecordingObserver()
    remade(data, load_session=model, observer=observer)
    assert model.images == sum(observer.batches) == DISTINCT


def test_a_second_one_does_nothing(data: Path) -> None:
    """A catalog that is the model's already is left alone, and the model is not even loaded."""
    remade(data)
    before, model = everything(data), CountingModel()
    assert not remade(data, load_session=model).changed
    assert (everything(data), model.loaded) == (before, 0)


def test_stopped_and_taken_up(data: Path) -> None:
    """What was on disk when it was stopped is not embedded again, and the end is that of one that was not stopped."""
    before, seen = everything(data), list[tuple[int, int]]()
    with pytest.raises(KeyboardInterrupt):
        remade(data, progress=stop_after(1))
    assert everything(data) == before
    assert len(table(data, "rebuilt")) == BATCH
    model = CountingModel()
    done = remade(data, load_session=model, progress=lambda done, of: seen.append((done, of)))
    assert (done.found, done.embedded, model.images) == (BATCH, DISTINCT - BATCH, DISTINCT - BATCH)
    assert seen == [(BATCH, DISTINCT), (DISTINCT, DISTINCT)]


def test_stopped_at_the_end(data: Path) -> None:
    """When all is embedded and only the last transaction is missing, the model is not loaded again."""
    with pytest.raises(KeyboardInterrupt):
        remade(data, progress=stop_after(2))
    model = CountingModel()
    done = remade(data, load_session=model)
    assert (done.changed, done.found, done.embedded, model.loaded) == (True, DISTINCT, 0, 0)


def test_a_model_that_fails(data: Path) -> None:
    """When the model fails the message says so, the batches before it are kept, and the catalog is as it was."""
    before, sessions = everything(data), list[FailingSession]()

    def wrap(session: Session) -> Session:
        sessions.append(FailingSession(session, lambda run: run == 1))
        return sessions[-1]

    def begin(*_: int) -> None:
        for session in sessions:
            session.begin()

    observer = RecordingObserver()
    with pytest.raises(LookalikeError, match="the model failed on a batch of 4 images: run 1 fails") as caught:
        remade(data, load_session=CountingModel(wrap), progress=begin, observer=observer)
    assert caught.value.code is Code.INTERNAL
    assert len(observer.failed_batches) == 1
    assert everything(data) == before
    assert remade(data).products == len(SHOP)


def test_a_write_that_fails_at_the_end(data: Path) -> None:
    """When the last transaction fails half-way, nothing of it is left, and the next run needs no model."""
    before = everything(data)
    change(
        data,
        "CREATE TRIGGER full BEFORE INSERT ON embeddings WHEN new.product_id = 'shared-2'"
        " BEGIN SELECT RAISE(ABORT, 'no room'); END",
    )
    with pytest.raises(LookalikeError, match=r"no room\. The catalog is as it was"):
        remade(data)
    assert everything(data) == before
    change(data, "DROP TRIGGER full")
    assert remade(data).found == DISTINCT


async def test_served_in_between(serve: Serve, data: Path) -> None:
    """A catalog whose rebuild was stopped is served and changed as ever, and only what is new is embedded later."""
    async with serve() as served:
        before = await answers(served)
    with pytest.raises(KeyboardInterrupt):
        remade(data, progress=stop_after(2))
    async with serve() as served:
        assert await answers(served) == before
        await fill(served, [item("later", encoded(noise(50)))])
        await served.catalog.DeleteProducts(pb.DeleteProductsRequest(ids=["file"]))
    model = CountingModel()
    done = remade(data, load_session=model)
    assert (done.found, done.embedded, model.images) == (DISTINCT - 1, 1, 1)
    assert ("later", 0) in embeddings(data)
    assert ("file", 0) not in embeddings(data)


def test_for_another_model_than_before(data: Path, tmp_path: Path) -> None:
    """What one model made is of no use to another: everything is embedded, and nothing of the first is left."""
    with pytest.raises(KeyboardInterrupt):
        remade(data, progress=stop_after(2))
    done = remade(data, mean_colors(tmp_path / "model"), load_mean_colors)
    assert (done.found, done.embedded) == (0, DISTINCT)
    assert {len(vector) for vector in embeddings(data).values()} == {3}


def test_the_old_model_after_all(data: Path) -> None:
    """When the model is the catalog's own, what a stopped rebuild made for another is kept for that."""
    with pytest.raises(KeyboardInterrupt):
        remade(data, progress=stop_after(1))
    assert not remade(data, OLD).changed
    assert remade(data).found == BATCH
