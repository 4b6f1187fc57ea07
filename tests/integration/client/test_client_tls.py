"""The clients and the command over TLS: what is trusted, who is let in, and what the user reads where that fails."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from grpc import StatusCode

from lookalike_client import AsyncClient, Client, LookalikeError, Tls, TlsError
from lookalike_client.cli import main
from support.catalogs import put
from support.pem_files import Authority, Pair, server_credentials
from support.scripted_server import ScriptedServer

LOCAL = ("127.0.0.1", "localhost")

Listen = Callable[..., ScriptedServer]
Health = Callable[..., str]


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    """Return the CA of the servers and their clients."""
    return Authority(tmp_path)


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """Return another CA."""
    return Authority(tmp_path, "other-ca")


@pytest.fixture
def listen(real: Client) -> Iterator[Listen]:
    """Return a function that starts a server with a certificate, which passes calls on to the real server."""
    with ExitStack() as running:

        def start(pair: Pair, client_ca: Path | None = None) -> ScriptedServer:
            return running.enter_context(ScriptedServer(real.target, server_credentials(pair, client_ca)))

        yield start


@pytest.fixture(params=["sync", "async"])
def health(request: pytest.FixtureRequest) -> Health:
    """Return a function that asks for the health over `tls`: with `Client` in one run, `AsyncClient` in the other."""

    def ask(target: str, tls: Tls | None) -> str:
        with Client(target, tls=tls, timeout=20.0) as client:
            return client.health()

    async def ask_async(target: str, tls: Tls | None) -> str:
        async with AsyncClient(target, tls=tls, timeout=20.0) as client:
            return await client.health()

    if request.param == "sync":
        return ask
    return lambda *args: asyncio.run(ask_async(*args))


def lookalike(*arguments: str | Path, **environment: str | Path) -> Result:
    """Run the command."""
    variables = {name: str(value) for name, value in environment.items()}
    return CliRunner().invoke(main, list(map(str, arguments)), env=variables)


def test_calls_and_streams_over_tls(ca: Authority, listen: Listen, real: Client) -> None:
    """Unary calls, a stream each way and the wait for the server work with a server whose CA is trusted."""
    put(real, "p01", "Shoes")
    server = listen(ca.pair("server", *LOCAL))
    with Client(server.address, tls=Tls(ca=ca.pem)) as client:
        client.wait_until_ready(20.0)
        assert client.health() == "SERVING"
        assert [each.id for each in client.products()] == ["p01"]
        assert [each.product.id for each in client.export_products()] == ["p01"]
        image = client.image("p01").data
        assert sorted(each.id for each in client.embed_many([("one", image), ("two", image)])) == ["one", "two"]


def test_a_server_is_called_by_each_of_its_names(ca: Authority, listen: Listen, health: Health) -> None:
    """A certificate for a name and an address serves both."""
    port = listen(ca.pair("server", *LOCAL)).port
    assert {health(f"{host}:{port}", Tls(ca=str(ca.pem))) for host in LOCAL} == {"SERVING"}


def test_a_servers_own_certificate_is_a_root(ca: Authority, listen: Listen, health: Health) -> None:
    """Where there is no CA, the server's own certificate is what to trust."""
    pair = ca.pair("server", *LOCAL)
    assert health(listen(pair).address, Tls(ca=pair.certificate)) == "SERVING"


def test_a_server_of_another_ca(ca: Authority, stranger: Authority, listen: Listen, health: Health) -> None:
    """A server of a CA that is not trusted, be it a stranger or not among the system's, gets no call."""
    server = listen(ca.pair("server", *LOCAL))
    for tls in (Tls(ca=stranger.pem), Tls()):
        with pytest.raises(LookalikeError, match="certificate is not signed by a trusted CA") as caught:
            health(server.address, tls)
        assert caught.value.code is StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("kind", "words"),
    [("expired", "has expired"), ("future", "is not valid yet"), ("pair", "is for another host name")],
)
def test_a_certificate_that_is_not_valid(ca: Authority, listen: Listen, health: Health, kind: str, words: str) -> None:
    """An expired certificate, one from the future and one of another host each have their own words."""
    names = ("other.example",) if kind == "pair" else LOCAL
    server = listen(getattr(ca, kind)("server", *names))
    with pytest.raises(LookalikeError, match=f"the server's certificate {words}"):
        health(server.address, Tls(ca=ca.pem))


def test_a_client_certificate(ca: Authority, stranger: Authority, listen: Listen, health: Health) -> None:
    """Where clients need a certificate of the CA, only those with one are let in."""
    server = listen(ca.pair("server", *LOCAL), ca.pem)
    mine, theirs = ca.pair("client", "client.example"), stranger.pair("stranger", "client.example")
    expired = ca.expired("old-client", "client.example")
    assert health(server.address, Tls(ca.pem, mine.certificate, mine.key)) == "SERVING"
    for tls in (Tls(ca.pem), *(Tls(ca.pem, each.certificate, each.key) for each in (theirs, expired))):
        with pytest.raises(LookalikeError, match="certificate") as caught:
            health(server.address, tls)
        assert caught.value.code is StatusCode.UNAVAILABLE
    assert server.calls == []


def test_no_downgrade(ca: Authority, listen: Listen, real: Client, health: Health) -> None:
    """Neither side falls back: a plain client gets nothing of a TLS server, and a TLS client nothing of a plain one."""
    with pytest.raises(LookalikeError, match="it expects TLS"):
        health(listen(ca.pair("server", *LOCAL)).address, None)
    with pytest.raises(LookalikeError, match="the server does not speak TLS"):
        health(real.target, Tls(ca=ca.pem))


def test_a_wait_ends_where_waiting_is_of_no_use(ca: Authority, stranger: Authority, listen: Listen) -> None:
    """A server that is not trusted now is not waited for; one that is not there yet is."""
    server = listen(ca.pair("server", *LOCAL))
    with (
        Client(server.address, tls=Tls(ca=stranger.pem)) as client,
        pytest.raises(LookalikeError, match="not signed by a trusted CA") as caught,
    ):
        client.wait_until_ready(60.0)
    assert caught.value.code is StatusCode.UNAVAILABLE
    server.stop()
    with Client(server.address, tls=Tls(ca=ca.pem)) as client, pytest.raises(LookalikeError, match="no response"):
        client.wait_until_ready(0.2)


def test_half_a_client_certificate() -> None:
    """A certificate without its key, and a key without its certificate, are rejected where they are given."""
    for half in ({"certificate": "c.pem"}, {"key": "c.key"}):
        with pytest.raises(ValueError, match="give both or neither"):
            Tls(**half)


def test_files_that_cannot_be_used(ca: Authority, tmp_path: Path) -> None:
    """A missing file, one without PEM, a key of another certificate and an encrypted key each have their own words."""
    one, two = ca.pair("one", "one.example"), ca.pair("two", "two.example")
    empty, encrypted = tmp_path / "empty.pem", tmp_path / "encrypted.key"
    empty.touch()
    encrypted.write_bytes(_encrypted(one.key.read_bytes()))
    for tls, words in (
        (Tls(ca=tmp_path / "none.pem"), "none.pem cannot be read: No such file"),
        (Tls(ca=tmp_path), "cannot be read: Is a directory"),
        (Tls(ca=empty), "empty.pem holds no certificates"),
        (Tls(ca=one.key), "one.key holds no certificates"),
        (Tls(ca.pem, one.certificate, two.key), "two.key is not the key of the certificate in .*one.pem"),
        (Tls(ca.pem, one.key, one.certificate), "are not a certificate and its key"),
        (Tls(ca.pem, one.certificate, empty), "are not a certificate and its key"),
        (Tls(ca.pem, one.certificate, encrypted), "encrypted.key is encrypted; decrypt it"),
    ):
        with pytest.raises(TlsError, match=words):
            Client("127.0.0.1:1", tls=tls)


def test_the_command_over_mtls(ca: Authority, listen: Listen, real: Client) -> None:
    """The command takes its files from flags or from the environment."""
    put(real, "p01", "Shoes")
    server = listen(ca.pair("server", *LOCAL), ca.pem)
    mine = ca.pair("client", "client.example")
    flags = ("--server", server.address, "--ca", ca.pem, "--cert", mine.certificate, "--key", mine.key)
    variables: dict[str, str | Path] = {
        "LOOKALIKE_CLIENT_SERVER": server.address,
        "LOOKALIKE_CLIENT_CA": ca.pem,
        "LOOKALIKE_CLIENT_CERT": mine.certificate,
        "LOOKALIKE_CLIENT_KEY": mine.key,
    }
    for result in (lookalike(*flags, "get", "p01"), lookalike("get", "p01", **variables)):
        assert result.exit_code == 0, result.stderr
        assert "p01" in result.stdout


def test_what_the_command_says(ca: Authority, stranger: Authority, listen: Listen, real: Client) -> None:
    """Each failure is one line with the address, what is wrong and the flag to change."""
    names = ca.pair("server", *LOCAL)
    tls, mtls = listen(names), listen(names, ca.pem)
    theirs = stranger.pair("stranger", "client.example")
    cert = ("--cert", theirs.certificate, "--key", theirs.key)
    for server, flags, words in (
        (tls, ("--tls",), "not signed by a trusted CA; name the file of its CA with --ca"),
        (tls, ("--ca", stranger.pem), "not signed by a trusted CA; --ca names the file of another CA"),
        (tls, (), "expects TLS, .*; try --tls"),
        (real, ("--ca", ca.pem), "does not speak TLS; call it without --tls"),
        (mtls, ("--ca", ca.pem), "try with a client certificate: --cert"),
        (mtls, ("--ca", ca.pem, *cert), "--cert and --key may be of a CA that it does not trust"),
        (tls, ("--ca", "none.pem"), "none.pem cannot be read: No such file"),
    ):
        target = server.target if isinstance(server, Client) else server.address
        result = lookalike("--server", target, *flags, "categories")
        assert result.exit_code == 1
        assert re.fullmatch(f"lookalike: .*{words}.*\n", result.stderr), result.stderr


def _encrypted(key: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization as form

    password = form.BestAvailableEncryption(b"secret")
    loaded: Any = form.load_pem_private_key(key, None)
    return bytes(loaded.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, password))
