"""Where to listen: HOST:PORT, [IPV6]:PORT or unix:PATH, parsed here so that each mistake has a sentence of its own.

gRPC takes what it can of an address (port 70000 became 4464) and says only that it failed.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from lookalike_server.domain.errors import Code, LookalikeError

_MAX_PORT = 65_535
_MAX_PATH_BYTES = 107  # of `sun_path` on Linux, less its last zero
_UNIX = "unix:"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen.

    Attributes:
        host: A name or an address; empty for a Unix socket.
        port: Its port; 0 is any free one.
        resolved: What the host stands for, as `socket.getaddrinfo` returns it.
        path: Of the Unix socket.
    """

    host: str = ""
    port: int = 0
    resolved: tuple[tuple[socket.AddressFamily, str], ...] = ()
    path: str = ""

    def __str__(self) -> str:
        """Return it as gRPC writes it."""
        if self.path:
            return f"{_UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return all(ipaddress.ip_address(each.partition("%")[0]).is_loopback for _, each in self.resolved)

    def log_fields(self, port: int) -> dict[str, int]:
        """Return the port for the log; a Unix socket has none, and gRPC says 1."""
        return {} if self.path else {"port": port}

    def with_port(self, port: int) -> Address:
        """Return it with the port that 0 became."""
        return replace(self, port=port)


def dial_target(listen: str) -> str:
    """Return where a client on this machine reaches a server that listens there: loopback for any address.

    Raises:
        LookalikeError: FAILED_PRECONDITION where the port is whatever was free.
    """
    host, _, port = listen.rpartition(":")
    if listen.startswith(_UNIX):
        return listen
    if port == "0":
        raise LookalikeError(
            Code.FAILED_PRECONDITION, f"the settings say {listen}, any free port; name the server with --target"
        )
    loopback = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - not bound
    return f"{loopback.get(host, host)}:{port}"


def parse_listen(listen: str) -> Address:
    """Parse HOST:PORT, [IPV6]:PORT or unix:PATH.

    Raises:
        LookalikeError: FAILED_PRECONDITION with what is wrong with it.
    """
    if listen.startswith(_UNIX):
        return Address(path=_socket_path(listen))
    host, colon, port = listen.rpartition(":")
    if not colon or not port or (host.startswith("[") and not host.endswith("]")):
        raise _unusable(listen, "it has no port; write HOST:PORT, [IPV6]:PORT or unix:PATH")
    if not (port.isascii() and port.isdigit()) or int(port) > _MAX_PORT:
        raise _unusable(listen, f"{port} is not a port; write a number from 0 (any free port) to {_MAX_PORT}")
    bare = host[1:-1] if host.startswith("[") else host
    if ":" in host and bare == host:
        raise _unusable(listen, f"an IPv6 address needs brackets; write [{host}]:{port}")
    try:
        found = socket.getaddrinfo(bare, int(port), type=socket.SOCK_STREAM) if bare else []
    except (OSError, UnicodeError):
        found = []
    if not found:
        raise _unusable(listen, f"the host {bare!r} is not an address and no name that this machine can resolve")
    return Address(bare, int(port), tuple((family, str(each[0])) for family, _, _, _, each in found))


def check_exposure(
    address: Address, *, encrypted: bool, authenticated: bool, insecure: bool, allow_anonymous: bool
) -> None:
    """Check that an address that other machines can reach is protected, or that somebody said that it need not be.

    Args:
        address: Where to listen.
        encrypted: Whether it speaks TLS.
        authenticated: Whether callers have to say who they are.
        insecure: Whether it may be without TLS.
        allow_anonymous: Whether anybody may call.

    Raises:
        LookalikeError: FAILED_PRECONDITION with the settings to choose from.
    """
    if address.is_local:
        return
    if not (encrypted or insecure):
        raise _unusable(
            str(address),
            "other machines can reach it, and without TLS the network sees keys and images;"
            " give --tls-certificate-file and --tls-key-file, or --insecure where something else protects it",
        )
    if not (authenticated or allow_anonymous):
        raise _unusable(
            str(address),
            "other machines can reach it, and anybody there could change the catalog;"
            " give --auth-keys-file or --tls-client-ca-file, or --allow-anonymous where that is meant",
        )


def why_not(address: Address) -> LookalikeError:
    """Return the error of an address that gRPC could not listen on."""
    return bind_problem(address) or _unusable(str(address), "gRPC could not open it; its log above says why")


def bind_problem(address: Address) -> LookalikeError | None:
    """Try an address of a host, and return why nobody can listen there now; None where somebody could."""
    for family, host in address.resolved:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, address.port))
            except OSError as error:
                return bind_failure(address, error)
    return None


def bind_failure(address: Address, error: OSError) -> LookalikeError:
    """Return the error of an address that could not be bound."""
    if error.errno == errno.EADDRINUSE:
        return _unusable(
            str(address), "the port is in use: another program listens there; stop it or choose another one"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return _unusable(str(address), "it is not an address of this machine")
    if error.errno == errno.EACCES:
        return _unusable(str(address), "this user may not listen there; choose a port from 1024 on")
    return _unusable(str(address), os.strerror(error.errno or 0))


def _socket_path(listen: str) -> str:
    path = listen.removeprefix(_UNIX)
    if not path or len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise _unusable(listen, f"write unix:PATH with a path of 1 to {_MAX_PATH_BYTES} bytes")
    if not Path(path).parent.is_dir():
        raise _unusable(listen, f"{Path(path).parent} is not a folder")
    try:
        is_socket = stat.S_ISSOCK(Path(path).lstat().st_mode)
    except FileNotFoundError:
        return path
    if not is_socket:
        raise _unusable(listen, "there is a file that is not a socket; remove it or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # What nobody listens on was left behind by a server that was killed, and gRPC replaces it.
        if probe.connect_ex(path) == 0:
            raise _unusable(listen, "another server listens there; stop it or choose another path")
    return path


def _unusable(listen: str, why: str) -> LookalikeError:
    return LookalikeError(Code.FAILED_PRECONDITION, f"cannot listen on {listen}: {why}")
