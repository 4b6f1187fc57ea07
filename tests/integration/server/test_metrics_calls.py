"""Metrics of calls, images and queues: each moves with what it counts, over real gRPC."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from lookalike.v1 import catalog_service_pb2, embedding_service_pb2, embedding_service_pb2_grpc, search_service_pb2
from lookalike_server.config import Settings
from lookalike_server.domain.inference import Floats, Pixels
from lookalike_server.domain.protocols import Session
from lookalike_server.inference.manifest import ModelFolder
from lookalike_server.metrics.metrics import Metrics
from lookalike_server.watchdog.thread import Watchdog
from support.fakes import FailingSession, Wrapped
from support.paths import MODELS
from support.scrapes import Scrape
from support.serving import (
    HeldModel,
    Serve,
    Served,
    connect,
    encoded,
    load_session,
    noise,
    product,
    raw,
    rejected,
    until,
)

EMBED = {"grpc_type": "unary", "grpc_service": "lookalike.v1.EmbeddingService", "grpc_method": "Embed"}


@pytest.fixture
def metrics() -> Metrics:
    """Count from nothing."""
    return Metrics()


def embed(served: Served, seed: int = 1, **options: Any) -> Any:
    """Embed an image."""
    return served.embedding.Embed(embedding_service_pb2.EmbedRequest(image=raw(noise(seed))), **options)


async def until_value(metrics: Metrics, value: float, name: str, **labels: str) -> None:
    """Wait for a value: what a call ends with is counted just after its caller has it."""
    await until(lambda: Scrape(metrics).value(name, **labels) == value)


async def test_calls_by_method_and_code(serve: Serve, metrics: Metrics) -> None:
    """Each call is started once and handled once, under its method, kind and code, with its duration and reading."""
    async with serve(metrics=metrics) as served:
        for seed in (1, 2):
            await embed(served, seed)
        code, _, _ = await rejected(served.embedding.Embed(embedding_service_pb2.EmbedRequest()))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        stream = served.embedding.EmbedStream(
            iter([embedding_service_pb2.EmbedStreamRequest(image=raw(noise(3)), id="1")])
        )
        assert [response.id async for response in stream] == ["1"]
        assert [_ async for _ in served.catalog.ExportProducts(catalog_service_pb2.ExportProductsRequest())] == []
        await until(lambda: Scrape(metrics).total("grpc_server_handled_total") == 5)
        scrape = Scrape(metrics)
        assert scrape.value("grpc_server_started_total", **EMBED) == 3
        assert scrape.value("grpc_server_handled_total", **EMBED, grpc_code="OK") == 2
        assert scrape.value("grpc_server_handled_total", **EMBED, grpc_code="INVALID_ARGUMENT") == 1
        assert scrape.value("grpc_server_handling_seconds_count", **EMBED) == 3
        assert scrape.value("grpc_server_handling_seconds_sum", **EMBED) > 0
        assert scrape.labels("grpc_server_started_total", "grpc_type") == {
            "unary": 3,
            "bidi_stream": 1,
            "server_stream": 1,
        }
        assert scrape.value("lookalike_stage_seconds_count", stage="read") == 4  # of streams the items are not


class FixedShapes(Wrapped):
    """Runs another session in a few batch sizes only, as GPUs do."""

    fixed_shapes = True

    def run(self, images: Pixels) -> Floats:
        """Run it."""
        return self._session.run(images)


async def test_batches_and_padding(serve: Serve, metrics: Metrics) -> None:
    """Batches are observed by their size, and what the model ran beyond it is padding, as the callers' stats say."""
    held = HeldModel()

    def load(folder: ModelFolder, settings: Settings) -> Session:
        return FixedShapes(held(folder, settings))

    async with serve(load_session=load, metrics=metrics) as served:
        held.session.hold()
        first = asyncio.ensure_future(embed(served))
        await held.caught()
        others = [asyncio.ensure_future(embed(served, seed)) for seed in (2, 3, 4)]
        await until(lambda: "Queued: 3 " in repr(served.app.batcher))
        queued = Scrape(metrics)
        assert queued.value("lookalike_queue_depth", queue="inference", **{"class": "interactive"}) == 3
        assert queued.value("lookalike_queue_oldest_seconds", queue="inference", **{"class": "interactive"}) > 0
        assert queued.value("lookalike_message_bytes") > 4 * noise(1).nbytes
        held.session.let_go()
        stats = [response.stats for response in await asyncio.gather(first, *others)]
        assert [each.batch_size for each in stats] == [1, 3, 3, 3]
        await until(lambda: Scrape(metrics).value("lookalike_message_bytes") == 0)
        scrape = Scrape(metrics)
        assert scrape.value("lookalike_batch_size_count") == 2
        assert scrape.value("lookalike_batch_size_sum") == 4
        padding = sum(each.padded_size - each.batch_size for each in (stats[0], stats[1]))
        assert scrape.value("lookalike_batch_padding_total") == padding > 0
        assert scrape.value("lookalike_stage_seconds_count", stage="queue") == 4
        assert scrape.value("lookalike_stage_seconds_count", stage="inference") == 2
        assert scrape.value("lookalike_finish_prediction_error_seconds_bucket", le="+Inf") == 3  # those that waited
        assert scrape.value("lookalike_queue_depth", queue="inference", **{"class": "interactive"}) == 0


async def test_cache_lookups(serve: Serve, metrics: Metrics) -> None:
    """An image is a miss, in flight while it is embedded, and then a hit; one that is decoded counts as decoded."""
    held = HeldModel()
    request = embedding_service_pb2.EmbedRequest(image=encoded(noise(1)))
    async with serve(load_session=held, metrics=metrics, embedding_cache_bytes=1 << 20) as served:
        held.session.hold()
        first = asyncio.ensure_future(served.embedding.Embed(request))
        await held.caught()
        second = asyncio.ensure_future(served.embedding.Embed(request))
        await until_value(metrics, 1, "lookalike_embedding_cache_lookups_total", result="in_flight")
        held.session.let_go()
        await asyncio.gather(first, second)
        await served.embedding.Embed(request)
        lookups = Scrape(metrics).labels("lookalike_embedding_cache_lookups_total", "result")
        assert lookups == {"miss": 1, "in_flight": 1, "hit": 1}
        assert Scrape(metrics).value("lookalike_stage_seconds_count", stage="decode") == 1


async def test_rejections_by_reason(serve: Serve, metrics: Metrics, tmp_path: Path) -> None:
    """A call that finds the queue full, its quota used up or too many bytes in memory counts under that reason."""
    held = HeldModel()
    quotas = tmp_path / "quotas.toml"
    quotas.write_text("[default]\nmax_in_flight = 3\n")
    async with serve(
        load_session=held, metrics=metrics, max_queue_size=1, quotas_file=quotas, max_inflight_message_bytes=20_000
    ) as served:
        held.session.hold()
        first = asyncio.ensure_future(embed(served))
        await held.caught()
        second = asyncio.ensure_future(embed(served, 2))
        await until(lambda: "Queued: 1 " in repr(served.app.batcher))
        await rejected(embed(served, 3))
        await until_value(metrics, 1, "lookalike_rejected_total", reason="queue_full")
        # 3 KB of pixels each are in memory; a product of 20 KB waits for the model and fills the budget
        large = product("a", 4)
        large.title = "x" * 200
        large.attributes.update({f"k{i}": "v" * 1000 for i in range(18)})
        third = asyncio.ensure_future(
            served.catalog.UpsertProducts(catalog_service_pb2.UpsertProductsRequest(products=[large]))
        )
        await until(lambda: Scrape(metrics).value("lookalike_message_bytes") >= 20_000)
        await rejected(embed(served, 5))
        await until_value(metrics, 1, "lookalike_rejected_total", reason="quota")
        second.cancel()
        await until_value(metrics, 1, "grpc_server_handled_total", **EMBED, grpc_code="CANCELLED")
        await rejected(embed(served, 6))
        await until_value(metrics, 1, "lookalike_rejected_total", reason="bytes")
        held.session.let_go()
        await asyncio.gather(first, third)
        assert Scrape(metrics).total("lookalike_rejected_total") == 3


async def test_a_starting_server_counts_whom_it_rejects(serve: Serve, metrics: Metrics, tmp_path: Path) -> None:
    """Before there is an engine calls count as rejected, and the metrics can be read."""
    may_load, address = threading.Event(), f"unix:{tmp_path}/socket"

    def load(folder: ModelFolder, settings: Settings) -> Session:
        assert may_load.wait(240)
        return load_session(folder, settings)

    async def run() -> None:
        async with serve(load_session=load, metrics=metrics, listen=address):
            pass

    starting = asyncio.create_task(run())
    async with connect(address) as channel:
        await asyncio.wait_for(channel.channel_ready(), 30)
        stub: Any = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        await rejected(stub.GetModel(embedding_service_pb2.GetModelRequest()))
        await until_value(metrics, 1, "lookalike_rejected_total", reason="starting")
        assert Scrape(metrics).total("lookalike_build_info") == 0
        may_load.set()
    await starting


async def test_cancelled_images(serve: Serve, metrics: Metrics) -> None:
    """An image whose caller has gone counts as cancelled, once, and the model does not run it."""
    held = HeldModel()
    async with serve(load_session=held, metrics=metrics) as served:
        held.session.hold()
        first = asyncio.ensure_future(embed(served))
        await held.caught()
        gone = embed(served, 2)
        await until(lambda: "Queued: 1 " in repr(served.app.batcher))
        gone.cancel()
        await until_value(metrics, 1, "lookalike_images_dropped_total", reason="cancelled")
        held.session.let_go()
        await first
        scrape = Scrape(metrics)
        assert scrape.total("lookalike_images_dropped_total") == 1
        assert scrape.value("lookalike_batch_size_sum") == 1
        await until_value(metrics, 1, "grpc_server_handled_total", **EMBED, grpc_code="CANCELLED")


async def test_faults(serve: Serve, metrics: Metrics) -> None:
    """A batch that the model fails is a fault of a batch; a call with a good image afterwards is none."""
    failing: list[FailingSession] = []

    def load(folder: ModelFolder, settings: Settings) -> Session:
        failing.append(FailingSession(load_session(folder, settings), lambda number: number == 0))
        return failing[0]

    async with serve(load_session=load, metrics=metrics) as served:
        failing[0].begin()
        code, _, _ = await rejected(embed(served))
        assert code is grpc.StatusCode.INTERNAL
        await embed(served)
        faults = Scrape(metrics).labels("lookalike_faults_total", "kind")
        assert {kind: count for kind, count in faults.items() if count} == {"batch": 1}
        await until_value(metrics, 1, "grpc_server_handled_total", **EMBED, grpc_code="INTERNAL")


async def test_what_serves(serve: Serve, metrics: Metrics) -> None:
    """The build info names the model by its digest and what runs it, as GetModel does; the process is described too."""
    async with serve(metrics=metrics) as served:
        model = await served.embedding.GetModel(embedding_service_pb2.GetModelRequest())
        scrape = Scrape(metrics)
        assert scrape.labels("lookalike_build_info", "model_digest") == {model.digest: 1}
        assert scrape.labels("lookalike_build_info", "provider") == {model.provider: 1}
        assert scrape.value("process_resident_memory_bytes") > 0
        assert scrape.total("python_info") == 1


async def test_event_loop_lag(metrics: Metrics) -> None:
    """A loop that was held for a fifth of a second has a timer that is about as late."""
    with Watchdog() as watchdog:
        watchdog.report_lag(metrics)
        threading.Event().wait(0.2)  # holds the loop
        await until(lambda: Scrape(metrics).value("lookalike_event_loop_lag_seconds_count") > 0)
    scrape = Scrape(metrics)
    late = scrape.value("lookalike_event_loop_lag_seconds_bucket", le="+Inf") - scrape.value(
        "lookalike_event_loop_lag_seconds_bucket", le="0.1"
    )
    assert late >= 1


async def test_nothing_private(serve: Serve, metrics: Metrics, tmp_path: Path) -> None:
    """A scrape names no key, no caller, no product, no title, no attribute and no request."""
    from support.credentials import add_key, bearer

    keys = tmp_path / "keys"
    token = add_key(keys, "writer", name="checkout-caller")
    request = catalog_service_pb2.UpsertProductsRequest(
        products=[product("private-id", 1, attributes={"secret-key": "secret-value"})]
    )
    async with serve(metrics=metrics, auth_keys_file=keys) as served:
        metadata = (*bearer(token), ("x-request-id", "private-request"))
        await served.catalog.UpsertProducts(request, metadata=metadata)
        await served.search.Search(search_service_pb2.SearchRequest(product_id="private-id"), metadata=metadata)
        await rejected(embed(served, metadata=bearer("lk_wrong_token")))
        await until_value(metrics, 1, "grpc_server_handled_total", **EMBED, grpc_code="UNAUTHENTICATED")
        text = Scrape(metrics).text
        for private in (token, token.split("_")[1], "checkout-caller", "private", "secret", "Title", "wrong_token"):
            assert private not in text
        assert str(MODELS) not in text
        assert "Shoes" in text  # a category is named
