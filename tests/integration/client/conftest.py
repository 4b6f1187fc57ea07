"""Fixtures of the client's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from lookalike_client import AsyncClient, Client
from support.scripted_server import ScriptedServer
from support.server_fixtures import lookalike, model, real, server

__all__ = ["lookalike", "model", "real", "server"]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, server: ScriptedServer) -> Callable[..., Any]:
    """Return a function that calls a method by name: of `Client` in one run, of `AsyncClient` in the other."""

    def call_sync(method: str, *args: Any, **kwargs: Any) -> Any:
        with Client(server.address) as client:
            result = getattr(client, method)(*args, **kwargs)
            return list(result) if isinstance(result, Iterator) else result

    async def call_async(method: str, *args: Any, **kwargs: Any) -> Any:
        async with AsyncClient(server.address) as client:
            result = getattr(client, method)(*args, **kwargs)
            return [each async for each in result] if isinstance(result, AsyncIterator) else await result

    if request.param == "sync":
        return call_sync
    return lambda *args, **kwargs: asyncio.run(call_async(*args, **kwargs))
