"""The port that the workers share, and that nobody else may have."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from lookalike_server.domain.errors import Code, LookalikeError


@contextmanager
def held(listen: str) -> Iterator[str]:
    """Hold HOST:PORT, without listening, for as long as the block runs; yields it with the port that 0 became.

    The first bind is for us alone, so it fails where any other server is. Only then is SO_REUSEPORT set, which lets
    further sockets of this user join that set it as well: our workers'.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the address cannot be had.
    """
    host, _, port = listen.rpartition(":")
    with ExitStack() as stack:
        try:
            number = int(port)
            found = socket.getaddrinfo(host.strip("[]"), number, type=socket.SOCK_STREAM) if host else []
            for family, kind, protocol, _, address in found:
                holder = stack.enter_context(socket.socket(family, kind, protocol))
                number = _bind(holder, (address[0], number, *address[2:]))
            # Where nobody listens yet two holders can bind side by side (SO_REUSEADDR, which a restart needs).
            alone = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            alone.bind(f"\0lookalike-server {found[0][4][0]} {number}")
        except (OSError, ValueError, OverflowError, IndexError):
            raise LookalikeError(
                Code.FAILED_PRECONDITION, f"cannot listen on {listen}: in use, not of this host, or not HOST:PORT"
            ) from None
        yield f"{host}:{number}"


def _bind(holder: socket.socket, address: tuple[str | int, ...]) -> int:
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if holder.family == socket.AF_INET6:
        holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        holder.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL and holder.family == socket.AF_INET6:
            return int(address[1])  # "localhost" where there is no IPv6; gRPC does without it as well
        raise
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return int(holder.getsockname()[1])
