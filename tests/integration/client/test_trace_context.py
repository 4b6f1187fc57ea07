"""Calls of an application that uses OpenTelemetry carry its trace context; those of others need not have it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer

from lookalike_client import AsyncClient, Client
from support.otlp_receiver import OtlpReceiver
from support.serving import Serve, noise
from support.threaded_server import address


@pytest.fixture
def tracer() -> Iterator[Tracer]:
    """Make spans as an application does."""
    provider = TracerProvider(shutdown_on_exit=False)
    yield provider.get_tracer("application")
    provider.shutdown()


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_call_is_below_the_span_that_makes_it(
    serve: Serve, collector: OtlpReceiver, tracer: Tracer, kind: str
) -> None:
    """The server's span is a child of the client's current span, and of none where there is none."""
    async with serve() as served:
        if kind == "async":
            async with AsyncClient(address(served)) as client:
                with tracer.start_as_current_span("checkout") as span:
                    await client.embed(noise(1))
                    [each async for each in client.embed_many([("2", noise(2))])]
                await client.embed(noise(3))
        else:
            with Client(address(served)) as blocking, tracer.start_as_current_span("checkout") as span:
                await asyncio.to_thread(blocking.embed, noise(1))
                await asyncio.to_thread(lambda: list(blocking.embed_many([("2", noise(2))])))
            with Client(address(served)) as blocking:
                await asyncio.to_thread(blocking.embed, noise(3))
    context = span.get_span_context()
    calls = [each for each in collector.spans() if each.name.startswith("lookalike.v1.")]
    below = [each.name for each in calls if each.parent == f"{context.span_id:016x}"]
    assert sorted(below) == ["lookalike.v1.EmbeddingService/Embed", "lookalike.v1.EmbeddingService/EmbedStream"]
    (alone,) = [each for each in calls if each.parent == ""]
    assert alone.trace_id != f"{context.trace_id:032x}"


def test_a_client_imports_no_opentelemetry() -> None:
    """For an application that does not use OpenTelemetry it is not imported, installed or not."""
    program = (
        "import sys; from lookalike_client.channel import call_metadata;"
        "print(call_metadata('key'), 'opentelemetry' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(('authorization', 'Bearer key'),) False"
