"""Fixtures for tests of clients: the real server, and a scripted one in front of it. A conftest imports them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lookalike_client import Client
from lookalike_client.cli import main
from support.paths import MODELS
from support.scripted_server import ScriptedServer
from support.serving import Serve
from support.threaded_server import address, in_thread


@pytest.fixture
def model() -> str:
    """Name the model of the real server; a module may choose another one."""
    return "tiny"


@pytest.fixture
def real(serve: Serve, model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Return a client of the real server, whose calls the scripted server does not see."""
    settings = {"model": MODELS / model, "data_dir": tmp_path_factory.mktemp("data")}
    with in_thread(serve(**settings)) as served, Client(address(served)) as client:
        yield client


@pytest.fixture
def server(real: Client) -> Iterator[ScriptedServer]:
    """Return the server under the test's control, in front of the real one."""
    with ScriptedServer(real.target) as scripted:
        yield scripted


@pytest.fixture
def lookalike(server: ScriptedServer) -> Callable[..., Result]:
    """Return a function that runs the command against the server."""

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(main, ["--server", server.address, *map(str, arguments)])

    return run
