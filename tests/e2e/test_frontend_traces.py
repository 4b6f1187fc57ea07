"""With front-end processes a call is one trace: its context goes to the engine process with the call."""

from __future__ import annotations

from pathlib import Path

import pytest

from lookalike.v1 import catalog_service_pb2, search_service_pb2
from support.multiprocess_server import multiprocess_server
from support.otlp_receiver import OtlpReceiver
from support.serving import encoded, noise, product

SEARCH = "lookalike.v1.SearchService/Search"
TRACE, SPAN = "ab" * 16, "cd" * 8


@pytest.mark.slow
async def test_a_call_is_one_trace_over_both_processes(tmp_path: Path, collector: OtlpReceiver) -> None:
    """The front-end process receives and decodes, the engine process does the rest, below the same span."""
    with multiprocess_server(tmp_path, "--shutdown-grace-seconds", "30") as server:
        server.wait_for("serving")
        async with server.connect("frontend 2") as caller:
            await caller.catalog.UpsertProducts(catalog_service_pb2.UpsertProductsRequest(products=[product("p1", 1)]))
            request = search_service_pb2.SearchRequest(image=encoded(noise(1)), category="Shoes")
            parent = (("traceparent", f"00-{TRACE}-{SPAN}-01"),)
            assert (await caller.search.Search(request, metadata=parent)).neighbors[0].product.id == "p1"
        logged = server.wait_for("call_completed", method=f"/{SEARCH}")
        assert server.stop() == 0
    (call,) = collector.spans(SEARCH)
    assert (call.trace_id, call.parent) == (TRACE, SPAN)
    assert (logged["trace_id"], logged["span_id"]) == (TRACE, call.span_id)
    stages = {span.name: span for span in collector.spans() if span.parent == call.span_id}
    assert all(span.trace_id == TRACE for span in stages.values())
    frontend = call.resource["service.instance.id"]
    elsewhere = {name for name, span in stages.items() if span.resource["service.instance.id"] != frontend}
    assert set(stages) - elsewhere == {"receive", "decode"}
    assert elsewhere == {"queue", "inference", "search"}
    (batch,) = [span for span in collector.spans("batch") if span.links == [call.span_id]]
    assert stages["inference"].links == [batch.span_id]
