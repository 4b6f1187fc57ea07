"""Addresses to listen on: what each mistake says, and what other machines can reach."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.rpc.listening import check_exposure, parse_listen, why_not


@pytest.fixture
def taken() -> Iterator[int]:
    """Return a port that something else listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield listening.getsockname()[1]


def problem(listen: str) -> str:
    """Return what is wrong with an address."""
    with pytest.raises(LookalikeError) as caught:
        parse_listen(listen)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert caught.value.message.startswith(f"cannot listen on {listen}: ")
    return caught.value.message


@pytest.mark.parametrize(
    ("listen", "host", "port", "written"),
    [
        ("127.0.0.1:50051", "127.0.0.1", 50051, "127.0.0.1:50051"),
        ("localhost:0", "localhost", 0, "localhost:0"),
        ("[::1]:65535", "::1", 65535, "[::1]:65535"),
        ("0.0.0.0:1", "0.0.0.0", 1, "0.0.0.0:1"),  # noqa: S104 - nothing is bound
    ],
)
def test_an_address_is_written_as_it_was_read(listen: str, host: str, port: int, written: str) -> None:
    """Names, IPv4 and IPv6, with any port."""
    address = parse_listen(listen)
    assert (address.host, address.port, str(address)) == (host, port, written)


@pytest.mark.parametrize("listen", ["127.0.0.1", "localhost:", "50051", "", "[::1]", "[::1:1"])
def test_a_missing_port_is_named(listen: str) -> None:
    """It says how to write an address."""
    assert "it has no port; write HOST:PORT" in problem(listen)


@pytest.mark.parametrize("port", ["70000", "65536", "-1", "+1", "1.5", "http", "１", "99999999999999999999"])
def test_a_port_out_of_range_is_named(port: str) -> None:
    """Port 70000 is an error, not port 4464."""
    assert f"{port} is not a port; write a number from 0 (any free port) to 65535" in problem(f"127.0.0.1:{port}")


@pytest.mark.parametrize("host", ["999.0.0.1", "no such host", "", "127.0.0.1.", "a" * 300])
def test_a_malformed_host_is_named(host: str) -> None:
    """Another sentence than that of a port."""
    assert f"the host {host!r} is not an address" in problem(f"{host}:1")


def test_ipv6_needs_brackets() -> None:
    """Where the address ends is not certain, so the way to write it is shown."""
    assert "write [::1]:50051" in problem("::1:50051")


def test_a_port_in_use_is_named(taken: int) -> None:
    """A third sentence."""
    assert "the port is in use" in why_not(parse_listen(f"127.0.0.1:{taken}")).message


def test_an_address_of_another_machine_is_named() -> None:
    """TEST-NET-1 (RFC 5737) is nobody's."""
    assert "not an address of this machine" in why_not(parse_listen("192.0.2.1:50051")).message


def test_a_unix_socket(tmp_path: Path) -> None:
    """A path is taken where nothing is, or where a server that was killed left its socket."""
    path = tmp_path / "socket"
    assert str(parse_listen(f"unix:{path}")) == f"unix:{path}"
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(path))
        listening.listen()
        assert "another server listens there" in problem(f"unix:{path}")
    parse_listen(f"unix:{path}")


def test_a_path_that_is_no_socket(tmp_path: Path) -> None:
    """Nobody's file is replaced, and a folder that is missing is named."""
    (tmp_path / "file").write_text("precious")
    assert "a file that is not a socket" in problem(f"unix:{tmp_path}/file")
    assert "is not a folder" in problem(f"unix:{tmp_path}/missing/socket")
    assert "1 to 107 bytes" in problem("unix:")
    assert "1 to 107 bytes" in problem(f"unix:{tmp_path}/{'x' * 108}")


OPEN = {"encrypted": False, "authenticated": False, "insecure": False, "allow_anonymous": False}


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1", "unix:socket"])
def test_what_only_this_machine_reaches_needs_no_protection(listen: str) -> None:
    """Loopback and Unix sockets are served as they are."""
    check_exposure(parse_listen(listen), **OPEN)


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"])
@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ({}, "--insecure"),
        ({"allow_anonymous": True}, "--insecure"),
        ({"authenticated": True}, "--insecure"),
        ({"encrypted": True}, "--allow-anonymous"),
        ({"insecure": True}, "--allow-anonymous"),
    ],
)
def test_what_other_machines_reach_must_be_protected(listen: str, given: dict[str, bool], choice: str) -> None:
    """Without TLS or keys the words to choose from are given."""
    with pytest.raises(LookalikeError, match=choice):
        check_exposure(parse_listen(listen), **OPEN | given)


@pytest.mark.parametrize("encryption", ["encrypted", "insecure"])
@pytest.mark.parametrize("access", ["authenticated", "allow_anonymous"])
def test_either_protection_or_the_word_for_none(encryption: str, access: str) -> None:
    """TLS or --insecure, and keys or --allow-anonymous."""
    check_exposure(parse_listen("0.0.0.0:1"), **OPEN | {encryption: True, access: True})
