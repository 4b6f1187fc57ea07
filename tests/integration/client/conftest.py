"""Fixtures of the client's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lookalike_client import AsyncClient, Client
from lookalike_client.cli import main
from support.fake_server import FakeServer


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A server of our own, on a free port."""
    with FakeServer() as server:
        yield server


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, fake: FakeServer) -> Callable[..., Any]:
    """Calls a method of a client by name: of `Client` in one run of the test, of `AsyncClient` in the other."""

    def ask_sync(method: str, *args: Any, **kwargs: Any) -> Any:
        with Client(fake.address) as client:
            answer = getattr(client, method)(*args, **kwargs)
            return list(answer) if isinstance(answer, Iterator) else answer

    async def ask_async(method: str, *args: Any, **kwargs: Any) -> Any:
        async with AsyncClient(fake.address) as client:
            answer = getattr(client, method)(*args, **kwargs)
            return [each async for each in answer] if isinstance(answer, AsyncIterator) else await answer

    if request.param == "sync":
        return ask_sync
    return lambda *args, **kwargs: asyncio.run(ask_async(*args, **kwargs))


@pytest.fixture
def lookalike(fake: FakeServer) -> Callable[..., Result]:
    """Runs the command against the server."""

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(main, ["--server", fake.address, *map(str, arguments)])

    return run
