"""Exporting spans costs calls nothing, whatever the collector does: it is down, it never answers, or it is slow."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lookalike.v1 import embedding_service_pb2
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.events import TraceExportFailed
from support.fakes import RecordingObserver
from support.otlp_receiver import OtlpReceiver
from support.serving import Serve, Served, noise, raw, until

EMBED = "lookalike.v1.EmbeddingService/Embed"
HOUR = "3600"  # seconds


async def embed(served: Served, calls: int) -> None:
    """Make so many calls, one after the other; each must be answered."""
    for _ in range(calls):
        await served.embedding.Embed(embedding_service_pb2.EmbedRequest(image=raw(noise(1))), timeout=60)


@pytest.fixture
def silent_collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take connections and never answer; exports would wait for an hour."""
    monkeypatch.setenv("no_grpc_proxy", "127.0.0.1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", HOUR)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
        yield


async def test_a_collector_that_is_down_costs_a_few_events(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are answered, and however many exports fail, each kind of failure is reported once in a while."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen: nobody takes the connections
        monkeypatch.setenv("no_grpc_proxy", "127.0.0.1")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")  # an export for each span
        async with serve(observer=(observer := RecordingObserver())) as served:
            await embed(served, 20)
            await until(lambda: bool(observer.of(TraceExportFailed)))
            await embed(served, 20)
    reasons = [event.reason for event in observer.of(TraceExportFailed)]
    assert any("UNAVAILABLE" in reason or "DEADLINE_EXCEEDED" in reason for reason in reasons), reasons
    assert len(reasons) <= 4
    assert len(observer.calls) == 40


async def test_a_collector_that_never_answers_does_not_keep_a_server_from_ending(
    serve: Serve, silent_collector: None
) -> None:
    """At the end what is left is exported for a bounded time only, and what is lost is reported."""
    async with serve(observer=(observer := RecordingObserver()), shutdown_grace_seconds=0.5) as served:
        await embed(served, 5)
    assert "within 0.25 s" in observer.of(TraceExportFailed)[-1].reason


async def test_a_server_that_is_cut_does_not_export(serve: Serve, silent_collector: None) -> None:
    """Where a second signal cuts the calls under way, spans are not waited for either, however long the grace is."""
    observer = RecordingObserver()
    with pytest.raises(asyncio.CancelledError):  # noqa: PT012 - it is the end of the block that is tested
        async with serve(observer=observer, shutdown_grace_seconds=3600) as served:
            await embed(served, 1)
            raise asyncio.CancelledError
    assert "within 0 s" in observer.of(TraceExportFailed)[-1].reason


async def test_a_start_that_fails_reports_no_spans(serve: Serve, silent_collector: None, tmp_path: Path) -> None:
    """A server that never served had nothing to export, and says nothing of it."""
    observer = RecordingObserver()
    with pytest.raises(LookalikeError):
        await serve(observer=observer, model=tmp_path / "missing").__aenter__()
    assert observer.of(TraceExportFailed) == []


async def test_spans_that_a_slow_collector_does_not_take_are_dropped(
    serve: Serve, collector: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an export is under way calls are answered, and the spans that wait are bounded in number."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", HOUR)
    collector.answering.clear()
    async with serve(observer=(observer := RecordingObserver())) as served:
        await embed(served, 4)  # more spans than an export takes
        await asyncio.to_thread(collector.asked.wait, 60)
        await embed(served, 20)
        collector.answering.set()
    # Those of the export that was held, and those that the queue holds.
    assert 8 < len(collector.spans()) <= 8 + 8
    assert any("dropping" in event.reason for event in observer.of(TraceExportFailed))
