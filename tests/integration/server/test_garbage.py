"""What calls leave for the garbage collector, which seldom runs: only what grpcio itself leaves of each."""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from lookalike.v1 import catalog_service_pb2, search_service_pb2
from lookalike_server.domain import events
from support.fakes import RecordingObserver
from support.garbage import Garbage, garbage
from support.serving import Serve, Served, connect, product, until

ROUNDS = 5

GRPCIO = 5
"""Objects that grpcio 1.85 leaves of each call: `_find_method_handler` has a function inside that refers to its own
variables, among them that function and the call's metadata, which is one more for each item; here `user-agent`."""

Visit = Callable[[Served], Awaitable[object]]


async def _call(served: Served, method: str, request: bytes, code: str) -> None:
    """Connect, call and disconnect."""
    async with connect(f"127.0.0.1:{served.app.port}") as channel:
        unary: Any = channel.unary_unary(method)
        assert (await unary(request).code()).name == code


def calling(method: str, request: bytes = b"", code: str = "OK") -> Visit:
    """Return what calls a method, whose call ends with this code."""
    return lambda served: _call(served, method, request, code)


async def stream(served: Served) -> None:
    """Connect, have an item of a stream served, end the stream and disconnect."""
    async with connect(f"127.0.0.1:{served.app.port}") as channel:
        streaming: Any = channel.stream_stream("/lookalike.v1.SearchService/SearchStream")
        call = streaming()
        await call.write(search_service_pb2.SearchStreamRequest(id="1", search=SEARCH).SerializeToString())
        assert await call.read()
        await call.done_writing()
        assert (await call.code()).name == "OK"


async def scrape(served: Served) -> None:
    """Ask for the metrics, in a thread, whose client leaves nothing."""

    def ask() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", served.app.metrics_port or 0, timeout=60)
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    assert await asyncio.to_thread(ask) == 200


async def connect_only(served: Served) -> None:
    """Connect and disconnect."""

    def ask() -> bytes:
        with socket.create_connection(("127.0.0.1", served.app.port), timeout=60) as client:
            return client.recv(9)  # the server's first frame

    assert await asyncio.to_thread(ask)


SEARCH = search_service_pb2.SearchRequest(product_id="one", category="Shoes", k=1)
UPSERT = catalog_service_pb2.UpsertProductsRequest(products=[product("one", 1)])
DELETE = catalog_service_pb2.DeleteProductsRequest(ids=["none"])

VISITS = {
    "a write": (calling("/lookalike.v1.CatalogService/UpsertProducts", UPSERT.SerializeToString()), GRPCIO),
    "a write of nothing": (calling("/lookalike.v1.CatalogService/DeleteProducts", DELETE.SerializeToString()), GRPCIO),
    "a search": (calling("/lookalike.v1.SearchService/Search", SEARCH.SerializeToString()), GRPCIO),
    "a stream": (stream, GRPCIO),
    "an invalid request": (calling("/lookalike.v1.SearchService/Search", code="INVALID_ARGUMENT"), GRPCIO),
    "an unknown method": (calling("/lookalike.v1.SearchService/None", code="UNIMPLEMENTED"), GRPCIO),
    "a probe": (calling("/grpc.health.v1.Health/Check"), GRPCIO),
    "a connection without a call": (connect_only, 0),
    "a scrape": (scrape, 0),
}


async def left_by(served: Served, visit: Visit) -> Garbage:
    """Visit the server several times, after a first time, and return what that leaves."""
    await visit(served)
    await until(lambda: served.app.server.message_bytes == 0)
    tasks = len(asyncio.all_tasks())
    with garbage() as left:
        for _ in range(ROUNDS):
            await visit(served)
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
    return left


async def test_calls_leave_no_garbage_of_ours(serve: Serve) -> None:
    """Calls and connections of every kind are freed by their reference counts, but for what grpcio keeps of a call."""
    async with serve(metrics_listen="0") as served:
        for name, (visit, expected) in VISITS.items():
            left = await left_by(served, visit)
            assert left.types.total() <= expected * ROUNDS, (name, left)


async def test_a_cycle_for_each_call_is_found(serve: Serve) -> None:
    """An observer that leaves a cycle behind each call is seen, by its type and its number."""

    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    class Leaving(RecordingObserver):
        def __call__(self, event: events.Event) -> None:
            if isinstance(event, events.CallCompleted):
                Cycle()

    async with serve(observer=Leaving()) as served:
        left = await left_by(served, VISITS["an invalid request"][0])
    assert left.types[f"{Cycle.__module__}.{Cycle.__qualname__}"] == ROUNDS
    assert left.types.total() > GRPCIO * ROUNDS
