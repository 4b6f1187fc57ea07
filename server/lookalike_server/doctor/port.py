"""The address: whether one may listen there, and whether it is free or the server's own."""

from __future__ import annotations

import socket
from collections.abc import Callable

from lookalike_server.config import Settings
from lookalike_server.doctor.finding import Finding, error, ok, skipped
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.rpc.health import ProbeTls, ask_health
from lookalike_server.rpc.listening import bind_problem, dial_target
from lookalike_server.rpc_assembly import listen_address

_UNIX = "unix:"
_SECONDS = 3.0


def server_health(settings: Settings) -> str | None:
    """Ask whoever listens where these settings say; None where nobody answers as a gRPC server with health.

    Returns:
        "SERVING", "NOT_SERVING", or "NOT_ASKED" of a server that answers nobody without a client's certificate.
    """
    try:
        target = dial_target(settings.listen)
    except LookalikeError:
        return None
    if settings.tls_client_ca_file is not None:
        return "NOT_ASKED" if _listens(target) else None
    own = settings.tls_certificate_file
    answer = ask_health(target, _SECONDS, ProbeTls(own_certificate=own) if own else None)
    return answer if answer in ("SERVING", "NOT_SERVING") else None


def check_port(
    settings: Settings, owner: int | None, health: Callable[[Settings], str | None] = server_health
) -> Finding:
    """Check that the address is free, or that the server that these settings describe has it.

    Args:
        settings: Of the server.
        owner: The process that has locked the catalog's folder; None if there is none.
        health: Asks who listens there.
    """
    listen = settings.listen
    if listen.startswith(_UNIX) and _answers(listen.removeprefix(_UNIX)):
        return _taken(settings, owner, health, None)
    try:
        address = listen_address(settings)
    except LookalikeError as problem:
        return error("port", problem.message)
    if address.path:
        return ok("port", f"{listen} is free")
    if address.port == 0:
        return skipped("port", f"{listen} is any free port")
    problem_found = bind_problem(address)
    if problem_found is None:
        return ok("port", f"{listen} is free")
    return _taken(settings, owner, health, problem_found)


def _taken(
    settings: Settings, owner: int | None, health: Callable[[Settings], str | None], problem: LookalikeError | None
) -> Finding:
    answer = health(settings)
    if answer is None or owner is None:
        message = problem.message if problem else f"cannot listen on {settings.listen}: another server listens there"
        return error("port", message, "" if problem else "stop it or choose another path", health=answer)
    return ok("port", f"the server that runs (process {owner}) listens on {settings.listen}: {answer}", health=answer)


def _listens(target: str) -> bool:
    """Whether anybody accepts connections at HOST:PORT or unix:PATH."""
    if target.startswith(_UNIX):
        return _answers(target.removeprefix(_UNIX))
    host, _, port = target.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _SECONDS):
            return True
    except (OSError, ValueError):
        return False


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == 0
