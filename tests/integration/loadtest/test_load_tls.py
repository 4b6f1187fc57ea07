"""The load test over TLS and mTLS."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from lookalike_client import Client, Tls
from lookalike_client.cli import main
from lookalike_loadtest.requests import EMBED, RequestSet, RequestTemplate
from lookalike_loadtest.transports import GrpcOverTls
from lookalike_loadtest.worker_messages import WorkerConfig
from lookalike_loadtest.worker_pool import WorkerPool, WorkerPoolError
from support.catalogs import put
from support.pem_files import Authority, Pair, server_credentials
from support.scripted_server import ScriptedServer

SHORT = ("--rate", "40", "--arrivals", "constant", "--warmup", "0", "--duration", "0.5", "--workload", "search-id=1")


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    """Return the CA of the server and its clients."""
    return Authority(tmp_path)


@pytest.fixture
def mine(ca: Authority) -> Pair:
    """Return the load test's certificate."""
    return ca.pair("client", "load.example")


@pytest.fixture
def secured(ca: Authority, real: Client) -> Iterator[ScriptedServer]:
    """Return a server that requires certificates, with one product."""
    put(real, "p01", "Shoes")
    credentials = server_credentials(ca.pair("server", "127.0.0.1"), ca.pem)
    with ScriptedServer(real.target, credentials) as server:
        yield server


def test_a_load_test_over_mtls(ca: Authority, mine: Pair, secured: ScriptedServer) -> None:
    """The command's certificate goes to the workers too: every call is answered."""
    flags = ["--server", secured.address, "--ca", str(ca.pem), "--cert", str(mine.certificate), "--key", str(mine.key)]
    done = CliRunner().invoke(main, [*flags, "--json", "load", *SHORT])
    assert done.exit_code == 0, done.output
    measured = json.loads(done.stdout)["measurement"]
    assert measured["answered"] == len(secured.requests("Search")) == 20


def test_a_load_test_without_a_certificate(ca: Authority, secured: ScriptedServer) -> None:
    """Without its certificate the load test ends before any load, with the flag to add."""
    done = CliRunner().invoke(main, ["--server", secured.address, "--ca", str(ca.pem), "load", *SHORT])
    assert (done.exit_code, secured.calls) == (1, [])
    assert "try with a client certificate: --cert FILE --key FILE" in done.stderr


def test_workers_keep_their_connections(ca: Authority, mine: Pair, tmp_path: Path) -> None:
    """A transport over TLS equals its copy in a worker, which keeps its connections; a bad file is reported by it."""
    transport = GrpcOverTls(Tls(ca.pem, mine.certificate, mine.key))
    assert pickle.loads(pickle.dumps(transport)) == transport  # noqa: S301
    assert hash(transport) == hash(GrpcOverTls(Tls(ca.pem, mine.certificate, mine.key)))
    requests = [RequestSet(EMBED, [RequestTemplate(b"")])]
    config = WorkerConfig("127.0.0.1:1", requests, transport=GrpcOverTls(Tls(tmp_path / "none")))
    with WorkerPool(1) as pool, pytest.raises(WorkerPoolError, match="none cannot be read"):
        pool.connect(config)
