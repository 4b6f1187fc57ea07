"""Reserves the port that the frontend processes share, so that no other program can listen on it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.rpc.listening import Address, bind_failure


@contextmanager
def reserve_port(address: Address) -> Iterator[Address]:
    """Bind an address, without listening, for as long as the block runs; yield it with the port that 0 became.

    The bind is exclusive, so it fails where any other server listens. Only then is SO_REUSEPORT set, which lets further
    sockets of this user join that set it as well: those of the frontend processes.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the address cannot be bound, or is a Unix socket, which has one owner.
    """
    if address.path:
        raise LookalikeError(
            Code.FAILED_PRECONDITION,
            f"cannot listen on {address} with frontend processes, which share a port; give HOST:PORT",
        )
    with ExitStack() as stack:
        number = address.port
        try:
            for family, host in address.resolved:
                reserved = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                number = _bind(reserved, (host, number))
            # While nobody listens yet, a second supervisor could bind as well (SO_REUSEADDR, which a restart needs).
            name = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            name.bind(f"\0lookalike-server {address.resolved[0][1]} {number}")
        except OSError as error:
            raise bind_failure(address, error) from None
        yield address.with_port(number)


def _bind(reserved: socket.socket, address: tuple[str, int]) -> int:
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reserved.family == socket.AF_INET6:
        reserved.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        reserved.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL and reserved.family == socket.AF_INET6:
            return address[1]  # "localhost" on a host without IPv6, where gRPC listens on IPv4 only
        raise
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return int(reserved.getsockname()[1])
