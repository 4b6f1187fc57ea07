"""Where to serve HTTP: a port of the loopback interface, HOST:PORT or [IPV6]:PORT."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.rpc.listening import Address, bind_failure, parse_listen

_LOOPBACK = "127.0.0.1"
_BACKLOG = 128


def parse_metrics_listen(listen: str) -> Address:
    """Parse the setting `metrics_listen`; a port alone is one of the loopback interface.

    Raises:
        LookalikeError: FAILED_PRECONDITION with what is wrong with it.
    """
    if listen.isascii() and listen.isdigit():
        listen = f"{_LOOPBACK}:{listen}"
    elif listen.startswith("unix:"):
        raise _named(f"cannot listen on {listen}: metrics are served over TCP only; write PORT or HOST:PORT")
    elif listen.startswith(":"):
        raise _named(
            f"cannot listen on {listen}: it has no host; write {listen[1:] or 'PORT'} for this machine alone,"
            f" or 0.0.0.0{listen} where others are to reach it"
        )
    try:
        return parse_listen(listen)
    except LookalikeError as error:
        raise _named(error.message) from None


def listen_sockets(address: Address) -> tuple[socket.socket, ...]:
    """Bind and listen on every address of the host, on one port.

    Raises:
        LookalikeError: FAILED_PRECONDITION when one of them cannot be listened on.
    """
    with ExitStack() as stack:
        sockets: list[socket.socket] = []
        port = address.port
        for family, host in sorted(set(address.resolved)):  # IPv4 first
            bound = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:  # or [::] would take the IPv4 port too, which another address may name
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
            try:
                bound.bind((host, port))
                bound.listen(_BACKLOG)
            except OSError as error:
                if family == socket.AF_INET6 and error.errno == errno.EADDRNOTAVAIL and sockets:
                    continue  # "localhost" on a host without IPv6
                raise _named(bind_failure(address.with_port(port), error).message) from None
            bound.setblocking(False)
            port = bound.getsockname()[1]
            sockets.append(bound)
        stack.pop_all()
        return tuple(sockets)


def _named(message: str) -> LookalikeError:
    return LookalikeError(Code.FAILED_PRECONDITION, f"metrics_listen: {message}")
