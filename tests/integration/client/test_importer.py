"""Importing a catalog: what is sent, what is repeated, what is counted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from grpc import StatusCode

from lookalike.v1 import catalog_service_pb2
from lookalike_client import AsyncClient, Client, LookalikeError
from lookalike_client.transfer.catalog_csv import CatalogFile
from lookalike_client.transfer.catalog_error import FailedRow
from lookalike_client.transfer.import_batches import Batch, ImageRows
from lookalike_client.transfer.importer import (
    MAX_ATTEMPTS,
    MAX_FAILURES,
    ImportProgress,
    ImportStoppedError,
    import_batches,
    seconds_until_retry,
)
from lookalike_client.transfer.stored_products import existing_ids
from support.catalogs import good_row, put, stored, write_catalog, write_products
from support.scripted_server import Rejection, ScriptedServer
from support.serving import Serve
from support.threaded_server import address, in_thread


class Recorder:
    """Records what an import reports, and does not sleep."""

    def __init__(self) -> None:
        self.rejections: list[LookalikeError] = []
        self.waits: list[float] = []
        self.done: list[int] = []

    def advanced(self, progress: ImportProgress) -> None:
        """Record the progress."""
        self.done.append(progress.done)

    def rejected(self, error: LookalikeError, wait: float) -> None:
        """Record the rejection."""
        self.rejections.append(error)

    async def pause(self, seconds: float) -> None:
        """Record the wait instead of waiting."""
        self.waits.append(seconds)


def run(
    address: str,
    path: Path,
    recorder: Recorder | None = None,
    *,
    batch: int = 16,
    concurrency: int = 4,
    skip_existing: bool = False,
    limit: int | None = None,
    progress: ImportProgress | None = None,
) -> ImportProgress:
    """Import a CSV."""
    progress = progress or ImportProgress()
    recorder = recorder or Recorder()

    async def go() -> None:
        async with AsyncClient(address) as client:
            existing = await existing_ids(client) if skip_existing else set()
            batches = ImageRows(CatalogFile(path)).batches(size=batch, limit=limit, existing=existing)
            await import_batches(client, batches, progress, recorder, concurrency=concurrency, pause=recorder.pause)

    asyncio.run(go())
    return progress


def sizes(server: ScriptedServer) -> list[int]:
    """How many products each upsert had."""
    requests = cast("list[catalog_service_pb2.UpsertProductsRequest]", server.requests("UpsertProducts"))
    return [len(each.products) for each in requests]


def test_products_arrive_as_the_csv_has_them(server: ScriptedServer, real: Client, tmp_path: Path) -> None:
    """Id, category, title, attributes and the image arrive; the image's uri is the path as the CSV has it."""
    progress = run(server.address, write_products(tmp_path, "a"))
    product = stored(real)["a"]
    assert (progress.imported, progress.failed, progress.skipped) == (1, 0, 0)
    assert (product.id, product.category, product.title) == ("a", "Men", "Product a")
    assert (product.image_uri, dict(product.attributes)) == ("images/a.jpg", {"color": "red"})


def test_batches_are_filled(server: ScriptedServer, real: Client, tmp_path: Path) -> None:
    """Ten products in batches of four are three requests."""
    recorder = Recorder()
    run(server.address, write_products(tmp_path, *"abcdefghij"), recorder, batch=4, concurrency=1)
    assert sizes(server) == [4, 4, 2]
    assert len(stored(real)) == 10
    assert recorder.done[-1] == 10


def test_bad_rows_fail_alone(server: ScriptedServer, real: Client, tmp_path: Path) -> None:
    """A missing file, a folder, a file that is not an image and a repeated id fail with row, id and reason."""
    rows = [
        good_row(tmp_path, "a"),
        ("b", "Men", "t", "images/none.jpg", ""),
        ("c", "Men", "t", "images", ""),
        ("d", "Men", "t", "catalog.csv", ""),
        good_row(tmp_path, "a"),
        ("", "Men", "t", "images/a.jpg", ""),
        ("e", "", "t", "images/a.jpg", ""),
        good_row(tmp_path, "f"),
    ]
    progress = run(server.address, write_catalog(tmp_path, rows))
    assert (progress.imported, progress.failed) == (2, 6)
    assert sorted(progress.failures, key=lambda row: row.number) == [
        FailedRow(3, "b", "image images/none.jpg: No such file or directory"),
        FailedRow(4, "c", "image images: Is a directory"),
        FailedRow(5, "d", "INVALID_ARGUMENT: images[0].encoded: is not a JPEG, PNG, WebP, AVIF, GIF or BMP image"),
        FailedRow(6, "a", "product_id is already in row 2"),
        FailedRow(7, "", "product_id is empty"),
        FailedRow(8, "e", "INVALID_ARGUMENT: category: is empty"),
    ]
    assert sorted(stored(real)) == ["a", "f"]


@pytest.mark.slow
def test_existing_products_are_skipped(server: ScriptedServer, real: Client, tmp_path: Path) -> None:
    """With skip-existing what the server holds is neither read nor sent again, however many pages that takes."""
    for number in range(1100):
        put(real, f"p{number}")
    path = write_catalog(
        tmp_path, [("p1", "Men", "t", "gone.jpg", ""), good_row(tmp_path, "q"), ("p1099", "Men", "t", "gone.jpg", "")]
    )
    progress = run(server.address, path, skip_existing=True)
    assert (progress.imported, progress.skipped, progress.failed) == (1, 2, 0)
    assert sizes(server) == [1]


def test_a_limit_is_kept(server: ScriptedServer, real: Client, tmp_path: Path) -> None:
    """Only the first rows are imported."""
    run(server.address, write_products(tmp_path, *"abcd"), limit=2)
    assert sorted(stored(real)) == ["a", "b"]


def test_a_batch_is_retried_while_the_server_is_busy(server: ScriptedServer, tmp_path: Path) -> None:
    """A rejected batch is sent again after the time the server asks for, and nothing is lost or counted twice."""
    server.rejections = [Rejection(StatusCode.RESOURCE_EXHAUSTED, "full", retry_after=7.5, pushback_ms=-1)]
    recorder = Recorder()
    progress = run(server.address, write_products(tmp_path, *"abc"), recorder)
    assert (progress.imported, progress.failed) == (3, 0)
    assert recorder.waits == [7.5]
    assert [error.code for error in recorder.rejections] == [StatusCode.RESOURCE_EXHAUSTED]


def test_a_busy_item_is_sent_again_alone(server: ScriptedServer, tmp_path: Path) -> None:
    """When the server rejects one product of a batch as busy, only that one is retried."""
    server.item_rejections["b"] = [Rejection(StatusCode.RESOURCE_EXHAUSTED, "full", retry_after=2.0)]
    recorder = Recorder()
    progress = run(server.address, write_products(tmp_path, *"abc"), recorder)
    assert (progress.imported, progress.failed) == (3, 0)
    assert sizes(server) == [3, 1]
    assert recorder.waits == [2.0]


def test_the_import_spans_a_restart(server: ScriptedServer, real: Client, tmp_path: Path) -> None:
    """A server that restarts in the middle gets the rest."""

    class Restarter(Recorder):
        async def pause(self, seconds: float) -> None:
            await super().pause(seconds)
            server.hooks.clear()
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)

    recorder = Restarter()
    server.hooks["UpsertProducts"] = lambda: server.drop_calls() if len(stored(real)) == 4 else None
    progress = run(server.address, write_products(tmp_path, *"abcdefgh"), recorder, batch=2, concurrency=1)
    assert (progress.imported, progress.failed) == (8, 0)
    assert recorder.rejections[0].code is StatusCode.UNAVAILABLE
    assert len(stored(real)) == 8


def test_a_server_that_stays_away_stops_the_import(server: ScriptedServer, tmp_path: Path) -> None:
    """After so many attempts the import stops with the last rejection; what was acknowledged stays counted."""
    server.hooks["UpsertProducts"] = lambda: server.rejections.extend(
        [Rejection(StatusCode.UNAVAILABLE, "gone", pushback_ms=-1)] * MAX_ATTEMPTS
    )
    recorder, progress = Recorder(), ImportProgress()
    with pytest.raises(ImportStoppedError) as caught:
        run(server.address, write_products(tmp_path, *"abcd"), recorder, batch=2, concurrency=1, progress=progress)
    assert caught.value.error.code is StatusCode.UNAVAILABLE
    assert progress.imported == 2
    assert len(recorder.waits) == MAX_ATTEMPTS - 1


def test_a_stopped_import_continues_with_skip_existing(server: ScriptedServer, tmp_path: Path) -> None:
    """The same import again with skip-existing brings in exactly the rest."""
    path = write_products(tmp_path, *"abcd")
    server.hooks["UpsertProducts"] = lambda: server.rejections.append(Rejection(StatusCode.PERMISSION_DENIED))
    with pytest.raises(ImportStoppedError):
        run(server.address, path, batch=2, concurrency=1)
    server.hooks.clear()
    progress = run(server.address, path, skip_existing=True)
    assert (progress.imported, progress.skipped, progress.failed) == (2, 2, 0)


@pytest.mark.parametrize("code", [StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED, StatusCode.UNIMPLEMENTED])
def test_a_rejection_of_the_caller_stops_at_once(server: ScriptedServer, tmp_path: Path, code: StatusCode) -> None:
    """Where no row could ever be imported, nothing is retried."""
    server.rejections = [Rejection(code)]
    with pytest.raises(ImportStoppedError):
        run(server.address, write_products(tmp_path, *"ab"), concurrency=1)
    assert sizes(server) == [2]


def test_a_rejected_request_is_split(server: ScriptedServer, tmp_path: Path) -> None:
    """When a batch as a whole is rejected its rows are sent one by one, so that only the invalid ones fail."""
    server.rejections = [
        Rejection(StatusCode.INTERNAL, "something broke"),
        Rejection(StatusCode.INTERNAL, "something broke"),
    ]
    progress = run(server.address, write_products(tmp_path, *"abc"), concurrency=1)
    assert (progress.imported, progress.failed) == (2, 1)
    assert progress.failures == [FailedRow(2, "a", "INTERNAL: something broke")]


@pytest.mark.slow
def test_a_batch_above_the_servers_limit_is_split(serve: Serve, tmp_path: Path) -> None:
    """A batch that is larger than the server's limit is split, not retried until the import stops."""
    path = write_products(tmp_path, *"ab")
    for name in "ab":
        with (tmp_path / "images" / f"{name}.jpg").open("ab") as file:
            file.write(b"x" * 700_000)
    with in_thread(serve(max_message_bytes=1_000_000)) as served:
        recorder = Recorder()
        progress = run(address(served), path, recorder)
        assert (progress.imported, progress.failed, recorder.waits) == (2, 0, [])


def test_at_most_so_many_batches_are_in_memory(server: ScriptedServer, tmp_path: Path) -> None:
    """While the server holds two batches back, no third one is read."""
    arrived, release = threading.Semaphore(0), threading.Event()

    def hold() -> None:
        arrived.release()
        release.wait()

    server.hooks["UpsertProducts"] = hold
    read: list[int] = []

    def counted(batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            read.append(len(batch.ready))
            yield batch

    async def go() -> list[int]:
        batches = counted(
            ImageRows(CatalogFile(write_products(tmp_path, *"abcdefgh"))).batches(size=1, limit=None, existing=set())
        )
        async with AsyncClient(server.address) as client:
            task = asyncio.create_task(import_batches(client, batches, ImportProgress(), Recorder(), concurrency=2))
            await asyncio.to_thread(arrived.acquire)
            await asyncio.to_thread(arrived.acquire)
            read_while_held = list(read)
            release.set()
            await task
        return read_while_held

    assert asyncio.run(go()) == [1, 1]
    assert len(read) == 8


def test_a_cancelled_import_keeps_its_counts(server: ScriptedServer, real: Client, tmp_path: Path) -> None:
    """Canceling while a batch is being sent ends the import, and the progress has what was acknowledged."""
    arrived, release = threading.Semaphore(0), threading.Event()

    def hold() -> None:
        if stored(real):
            arrived.release()
            release.wait()

    server.hooks["UpsertProducts"] = hold
    progress = ImportProgress()

    async def go() -> None:
        batches = ImageRows(CatalogFile(write_products(tmp_path, *"abc"))).batches(size=1, limit=None, existing=set())
        async with AsyncClient(server.address) as client:
            task = asyncio.create_task(import_batches(client, batches, progress, Recorder(), concurrency=1))
            await asyncio.to_thread(arrived.acquire)
            task.cancel()
            release.set()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(go())
    assert progress.imported == 1


def test_only_so_many_failures_are_kept() -> None:
    """A million bad rows are counted, and the first ones listed."""
    progress = ImportProgress()
    for number in range(MAX_FAILURES + 5):
        progress.fail(FailedRow(number, "", "bad"))
    assert (progress.failed, len(progress.failures), progress.done) == (
        MAX_FAILURES + 5,
        MAX_FAILURES,
        MAX_FAILURES + 5,
    )


def test_waits_double_and_obey_the_server() -> None:
    """Waits double up to 10 s, and are never shorter than the server asks for."""
    assert [seconds_until_retry(tries, None) for tries in (1, 2, 3, 9)] == [0.5, 1.0, 2.0, 10.0]
    assert seconds_until_retry(1, 30.0) == 30.0
    assert seconds_until_retry(9, 1.0) == 10.0


def test_nothing_but_skipped_rows_is_seen_to_advance(tmp_path: Path) -> None:
    """A long stretch without anything to send is cut into batches, so that progress is shown and memory bounded."""
    rows = [(f"p{number}", "Men", "t", "x.jpg", "") for number in range(2500)]
    existing = {row[0] for row in rows}
    batches = ImageRows(CatalogFile(write_catalog(tmp_path, rows))).batches(size=16, limit=None, existing=existing)
    assert [each.skipped for each in batches] == [1000, 1000, 500]
