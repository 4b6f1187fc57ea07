"""Accepting calls from the core, over real gRPC; it fails where another grpcio has other private parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from lookalike_server.rpc import accepting
from support.serving import until

METHOD = "/test.Echo/Echo"
CALLS = 200


class Echo(grpc.GenericRpcHandler):
    """Answers with the request, and notes it, once `open` is set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.begun: list[bytes] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Serve every method."""

        async def echo(request: bytes, _: Any) -> bytes:
            self.begun.append(request)
            await self.open.wait()
            return request

        return grpc.unary_unary_rpc_method_handler(echo)


class Serving:
    """A server, and a client of it."""

    def __init__(self) -> None:
        self.echo = Echo()
        self.server: Any = accepting.make_server((), (("grpc.so_reuseport", 0),))
        self.server.add_generic_rpc_handlers((self.echo,))
        self.port = self.server.add_insecure_port("127.0.0.1:0")

    def calls(self, channel: grpc.aio.Channel, count: int) -> list[Any]:
        """Make so many calls at once."""
        call: Any = channel.unary_unary(METHOD)
        return [call(str(number).encode(), timeout=60) for number in range(count)]


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    """Run a server for a test."""
    serving = Serving()
    await serving.server.start()
    yield serving
    await serving.server.stop(None)


async def test_all_calls_of_a_burst_are_answered(serving: Serving) -> None:
    """Whether a call was handed over at once or had to wait, it is served once and gets its own answer."""
    serving.echo.open.set()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{serving.port}") as channel:
        answers = await asyncio.gather(*serving.calls(channel, CALLS))
    assert answers == [str(number).encode() for number in range(CALLS)]
    assert sorted(serving.echo.begun) == sorted(answers)


async def test_the_core_waits_while_too_many_were_accepted(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for a few calls only, the others wait in the core, and all are answered."""
    monkeypatch.setattr(accepting, "_MAX_ACCEPTED", 2)
    serving.echo.open.set()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{serving.port}") as channel:
        assert len(await asyncio.gather(*serving.calls(channel, CALLS))) == CALLS


@pytest.mark.parametrize(("age", "first"), [(0.0, "oldest"), (1.0, "newest")], ids=["recent", "late"])
def test_the_newest_call_comes_first_once_the_oldest_is_late(age: float, first: str) -> None:
    """In order while calls are taken in time; then those that can still be answered."""
    now = 0.0
    calls = accepting.AcceptedCalls(lambda: now)
    calls.add("oldest")
    now = age
    calls.add("newest")
    assert calls.take() == first
    assert len(calls) == 1


async def test_a_server_stops_while_calls_wait(serving: Serving) -> None:
    """It ends those that were accepted and not yet begun, too."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{serving.port}") as channel:
        calls = [asyncio.ensure_future(each) for each in map(_code, serving.calls(channel, CALLS))]
        await until(lambda: bool(serving.echo.begun))
        await serving.server.stop(None)
        codes = await asyncio.gather(*calls)
    assert set(codes) <= {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN}


async def _code(call: Any) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK
