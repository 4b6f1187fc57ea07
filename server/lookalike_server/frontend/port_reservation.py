"""Reserves the port that the frontend processes share, so that no other program can listen on it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from lookalike_server.domain.errors import Code, LookalikeError


@contextmanager
def reserve_port(listen: str) -> Iterator[str]:
    """Bind HOST:PORT, without listening, for as long as the block runs; yield it with the port that 0 became.

    The bind is exclusive, so it fails where any other server listens. Only then is SO_REUSEPORT set, which lets further
    sockets of this user join that set it as well: those of the frontend processes.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the address cannot be bound.
    """
    host, _, port = listen.rpartition(":")
    with ExitStack() as stack:
        try:
            number = int(port)
            addresses = socket.getaddrinfo(host.strip("[]"), number, type=socket.SOCK_STREAM) if host else []
            for family, kind, protocol, _, address in addresses:
                reserved = stack.enter_context(socket.socket(family, kind, protocol))
                number = _bind(reserved, (address[0], number, *address[2:]))
            # While nobody listens yet, a second supervisor could bind as well (SO_REUSEADDR, which a restart needs).
            name = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            name.bind(f"\0lookalike-server {addresses[0][4][0]} {number}")
        except (OSError, ValueError, OverflowError, IndexError):
            raise LookalikeError(
                Code.FAILED_PRECONDITION,
                f"cannot listen on {listen}: in use, not an address of this host, or not HOST:PORT",
            ) from None
        yield f"{host}:{number}"


def _bind(reserved: socket.socket, address: tuple[str | int, ...]) -> int:
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reserved.family == socket.AF_INET6:
        reserved.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        reserved.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL and reserved.family == socket.AF_INET6:
            return int(address[1])  # "localhost" on a host without IPv6, where gRPC listens on IPv4 only
        raise
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return int(reserved.getsockname()[1])
