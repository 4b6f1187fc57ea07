"""Each language's tour over TLS and mTLS, and what it prints where a connection does not come about."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.languages.tours import Tour, arguments, run
from lookalike_client import Client
from support.catalogs import image_file, put
from support.pem_files import Authority, Pair, server_credentials
from support.scripted_server import ScriptedServer

pytestmark = pytest.mark.slow


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    """Return the CA of the servers and their clients."""
    return Authority(tmp_path)


@pytest.fixture
def mine(ca: Authority) -> Pair:
    """Return the tours' certificate."""
    return ca.pair("client", "shop.example")


@pytest.fixture
def mutual(ca: Authority, real: Client) -> Iterator[ScriptedServer]:
    """Return a server with a certificate, which requires one of its clients too."""
    with ScriptedServer(real.target, server_credentials(ca.pair("server", "127.0.0.1"), ca.pem)) as server:
        yield server


@pytest.fixture
def args(real: Client, tmp_path: Path, folder: Path) -> list[str]:
    """The arguments of a whole tour, but for the server."""
    put(real, "p01", "Shoes")
    (folder / "one.jpg").write_bytes(image_file("one"))
    (tmp_path / "image.jpg").write_bytes(image_file("p01"))
    (tmp_path / "bad.jpg").write_text("not an image")
    return arguments("SERVER", folder, tmp_path / "image.jpg", tmp_path / "bad.jpg")[2:]


def failed(tour: Tour) -> tuple[int, str, str]:
    """Return the status, the step and the code of a tour that failed."""
    failure = tour.output["failed"]
    return tour.status, failure["step"], failure["error"]["code"]


def test_a_tour_over_tls_and_mtls(
    language: str, ca: Authority, mine: Pair, mutual: ScriptedServer, real: Client, args: list[str], tmp_path: Path
) -> None:
    """A whole tour works by options and by the environment, with a token from a file in each call."""
    token = tmp_path / "token"
    token.write_text("secret\n")
    with ScriptedServer(real.target, server_credentials(ca.pair("plain-server", "127.0.0.1"))) as server:
        own = run(language, ["--server", server.address, *args, "--ca", str(ca.pem), "--token-file", str(token)])
    variables = {
        "LOOKALIKE_CLIENT_CA": str(ca.pem),
        "LOOKALIKE_CLIENT_CERT": str(mine.certificate),
        "LOOKALIKE_CLIENT_KEY": str(mine.key),
        "LOOKALIKE_CLIENT_TOKEN_FILE": str(token),
    }
    tour = run(language, ["--server", mutual.address, *args], **variables)
    assert (own.status, own.stderr) == (tour.status, tour.stderr) == (0, "")
    assert own.output["search_by_image"]["neighbors"][0]["id"] == "p01"
    assert tour.output == own.output
    for each in (server, mutual):
        assert {dict(metadata)["authorization"] for metadata in each.metadata} == {"Bearer secret"}


def test_no_tour_without_trust(
    language: str, ca: Authority, mine: Pair, mutual: ScriptedServer, real: Client, args: list[str], tmp_path: Path
) -> None:
    """Another CA, another name, no certificate, a plain client and a plain server each end a tour at its first step."""
    other = Authority(tmp_path, "other")
    pair = ["--cert", str(mine.certificate), "--key", str(mine.key)]
    with (
        ScriptedServer(real.target, server_credentials(ca.pair("far", "far.example"))) as wrong_name,
        ScriptedServer(real.target, server_credentials(ca.expired("old", "127.0.0.1"))) as expired,
        ScriptedServer(real.target) as plain,
    ):
        cases = [
            (mutual, ["--ca", str(other.pem), *pair]),
            (mutual, ["--ca", str(ca.pem)]),
            (mutual, ["--tls", *pair]),
            (mutual, []),
            (wrong_name, ["--ca", str(ca.pem)]),
            (expired, ["--ca", str(ca.pem)]),
            (plain, ["--ca", str(ca.pem)]),
        ]
        for server, flags in cases:
            # without the variable, gRPC for Python may log the handshake too
            tour = run(language, ["--server", server.address, *args, "--deadline", "8", *flags], GRPC_VERBOSITY="ERROR")
            assert failed(tour)[:2] == (1, "health"), (flags, tour.stderr)
            assert failed(tour)[2] in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}, json.dumps(tour.output)
            assert len(tour.stderr.splitlines()) == 1
            assert server.calls == []


@pytest.mark.parametrize(
    "wrong", [("--ca", "/nowhere/ca.pem"), ("--cert", "/nowhere/c.pem"), ("--token-file", "/nowhere/token")]
)
def test_files_that_are_missing(language: str, server: ScriptedServer, args: list[str], wrong: tuple[str, str]) -> None:
    """A missing file, or half of a certificate, is one line and exit status 2, before any call."""
    tour = run(language, ["--server", server.address, *args, *wrong])
    assert (tour.status, tour.output, server.calls) == (2, {}, [])
    assert tour.stderr.startswith("tour: ")
    assert len(tour.stderr.splitlines()) == 1


def test_a_token_in_the_clear(language: str, args: list[str]) -> None:
    """A token that is sent unencrypted to another machine is worth a line, which does not contain it."""
    # TEST-NET-1 of RFC 5737: no machine has this address
    tour = run(language, ["--server", "192.0.2.1:9", *args, "--token", "secret", "--deadline", "0.3"], no_proxy="*")
    assert tour.stderr.startswith("tour: WARNING: the token is sent to 192.0.2.1:9 without encryption")
    assert "secret" not in tour.stderr
