"""The fixtures that all tests share; what they hand out is in `serving.py`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

from lookalike.v1 import catalog_service_pb2_grpc, embedding_service_pb2_grpc, search_service_pb2_grpc
from lookalike_server.app import running
from lookalike_server.config import Settings
from lookalike_server.engine.model_loading import LoadSession
from lookalike_server.engine.search_device import OpenSearchDevice, open_search_device
from support.fakes import RecordingObserver
from support.paths import MODELS
from support.serving import Serve, Served, connect

if TYPE_CHECKING:
    from lookalike_server.metrics.metrics import Metrics
    from support.otlp_receiver import OtlpReceiver

# How long an example takes says something of the machine, and is no contract. The examples are the same in every run,
# so that a change is not rejected for what it has not changed; FUZZ_EXAMPLES, which is set at night, draws others.
settings.register_profile(
    "lookalike",
    deadline=None,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("lookalike")


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Undo what a test configured of the log: a command that runs in this process sends it to a stream that closes."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def provider() -> str:
    """Name what runs the model; a module whose contract concerns every runtime overrides it with all of them."""
    return "cpu"


@pytest.fixture
def serve(tmp_path: Path, provider: str) -> Serve:
    """What starts a server over the tiny model and this test's data folder, unless its arguments say otherwise."""

    @asynccontextmanager
    async def start(
        load_session: LoadSession | None = None,
        observer: RecordingObserver | None = None,
        metrics: Metrics | None = None,
        open_device: OpenSearchDevice = open_search_device,
        **settings: Any,
    ) -> AsyncIterator[Served]:
        chosen: dict[str, Any] = {
            "model": MODELS / "tiny",
            "data_dir": tmp_path / "data",
            "listen": "127.0.0.1:0",
            "provider": provider,
            # Measured plans differ from run to run; tests that are about measuring ask for it.
            "intra_op_threads": 1,
            "max_concurrent_batches": 1,
            "preferred_batch_size": 16,
            # Most tests send the same images again and again, and mean it.
            "embedding_cache_bytes": 0,
            "shutdown_grace_seconds": 30,
        } | settings
        observer = observer or RecordingObserver()
        async with (
            running(
                Settings(**chosen),
                observer=observer,
                load_session=load_session,
                metrics=metrics,
                open_device=open_device,
            ) as app,
            connect(f"127.0.0.1:{app.port}") as channel,
        ):
            yield Served(
                app,
                observer,
                channel,
                embedding_service_pb2_grpc.EmbeddingServiceStub(channel),
                search_service_pb2_grpc.SearchServiceStub(channel),
                catalog_service_pb2_grpc.CatalogServiceStub(channel),
            )

    return start


@pytest.fixture
async def served(serve: Serve) -> AsyncIterator[Served]:
    """One server over the tiny model and an empty catalog."""
    async with serve() as one:
        yield one


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    """Receive spans; the servers of this test send theirs to it, at the latest when they end."""
    # Here, because most tests need no OpenTelemetry.
    from support.otlp_receiver import otlp_receiver

    monkeypatch.setenv("no_grpc_proxy", "127.0.0.1")
    with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{receiver.target}")
        yield receiver
