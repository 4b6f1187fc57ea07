"""The `health` command over TLS: what it trusts, and what it prints where it gets no answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lookalike_server.__main__ import main
from support.pem_files import Authority, Pair, server_credentials
from support.scripted_server import ScriptedServer

Listen = Callable[..., ScriptedServer]


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    """Return the CA of the servers and their clients."""
    return Authority(tmp_path)


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Return a function that starts a server which knows its health and nothing else."""
    with ExitStack() as running:

        def start(pair: Pair | None, client_ca: Path | None = None) -> ScriptedServer:
            credentials = server_credentials(pair, client_ca) if pair else None
            return running.enter_context(ScriptedServer("127.0.0.1:1", credentials))

        yield start


def health(server: ScriptedServer, *flags: str | Path, **environment: str | Path) -> Result:
    """Run the command."""
    variables = {"LOOKALIKE_TLS_CERTIFICATE_FILE": "", **{name: str(value) for name, value in environment.items()}}
    arguments = ["health", "--target", server.address, "--timeout", "20", *map(str, flags)]
    return CliRunner().invoke(main, arguments, env=variables)


def test_health_over_tls(ca: Authority, listen: Listen) -> None:
    """A server is trusted by its CA, and by another name where its certificate is not for the address."""
    for names, flags in ((("127.0.0.1",), ()), (("search.example",), ("--server-name", "search.example"))):
        server = listen(ca.pair("server", *names))
        result = health(server, "--ca", ca.pem, *flags)
        assert (result.stdout, result.exit_code) == ("SERVING\n", 0)
        server.set_serving(serving=False)
        result = health(server, "--ca", ca.pem, *flags)
        assert (result.stdout, result.exit_code) == ("NOT_SERVING\n", 1)


def test_a_container_needs_no_flags(ca: Authority, listen: Listen) -> None:
    """The variable that gives the server its certificate gives the command what to trust, whatever its names are."""
    pair = ca.pair("server", "search.example", "*.shop.example")
    server = listen(pair)
    assert health(server, LOOKALIKE_TLS_CERTIFICATE_FILE=pair.certificate).stdout == "SERVING\n"
    # and nothing else is trusted
    another = Authority(ca.pem.parent, "other").pair("another", "search.example")
    result = health(server, LOOKALIKE_TLS_CERTIFICATE_FILE=another.certificate)
    assert (result.exit_code, "not signed by a trusted CA" in result.stdout) == (1, True)


def test_health_over_mtls(ca: Authority, listen: Listen) -> None:
    """A server that requires certificates answers one who has one, who may be the server itself."""
    pair = ca.pair("server", "search.example")
    server, own = listen(pair, ca.pem), {"LOOKALIKE_TLS_CERTIFICATE_FILE": pair.certificate}
    assert health(server, "--cert", pair.certificate, "--key", pair.key, **own).stdout == "SERVING\n"
    result = health(server, **own)
    assert (result.exit_code, "client certificate (--cert, --key)" in result.stdout) == (1, True)


def test_no_answer(ca: Authority, listen: Listen, tmp_path: Path) -> None:
    """Each failure is one line with the address and what is wrong."""
    tls = listen(ca.pair("server", "127.0.0.1"))
    for server, flags, words in (
        (tls, (), "it expects TLS"),
        (tls, ("--tls",), "not signed by a trusted CA"),
        (listen(None), ("--ca", ca.pem), "it does not speak TLS"),
        (listen(ca.expired("old", "127.0.0.1")), ("--ca", ca.pem), "has expired"),
        (listen(ca.pair("far", "far.example")), ("--ca", ca.pem), "another host name; see --server-name"),
        (tls, ("--ca", tmp_path / "none"), "none cannot be read: No such file"),
        (tls, ("--cert", ca.pem), "give both or neither"),
        (tls, ("--own-certificate", tmp_path / "none"), "none cannot be read"),
    ):
        result = health(server, *flags)
        assert (result.exit_code, len(result.stdout.splitlines())) == (1, 1)
        assert result.stdout.startswith(f"no answer from {server.address}: ")
        assert words in result.stdout


def test_a_service_by_name(listen: Listen) -> None:
    """The health of a service is asked for by its name, and one that the server does not know is said so."""
    server = listen(None)
    assert health(server, "--service", "").stdout == "SERVING\n"
    result = health(server, "--service", "alive")
    assert (result.exit_code, "it knows no 'alive'; try liveness" in result.stdout) == (1, True)
