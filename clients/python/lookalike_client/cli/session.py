"""What all commands share: the global options, output, and errors."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click
import grpc
import numpy as np
from rich.console import Console
from rich.table import Table

from lookalike_client.async_client import AsyncClient
from lookalike_client.cli.flags import in_flags
from lookalike_client.client import Client
from lookalike_client.connection_failures import ConnectionFailure, connection_failure
from lookalike_client.connection_options import ConnectionOptions
from lookalike_client.errors import LookalikeError
from lookalike_client.tls import Tls

INTERRUPTED = 130
"""The exit status of a command that was stopped with Ctrl-C, as in shells."""

_WIDE = 160


@dataclass(frozen=True)
class Session:
    """The global options and the output of one run.

    Attributes:
        connection: Where to connect, and how.
        timeout: The deadline of a call, in seconds.
        as_json: Whether to print results as JSON.
        out: Standard output, for results.
        err: Standard error, for everything else.
    """

    connection: ConnectionOptions
    timeout: float
    as_json: bool
    out: Console
    err: Console

    @property
    def server(self) -> str:
        """HOST:PORT."""
        return self.connection.server

    def client(self) -> Client:
        """Return a client for code without an event loop."""
        options = self.connection
        return Client(options.server, timeout=self.timeout, token=options.token, tls=options.tls)

    def async_client(self) -> AsyncClient:
        """Return a client for the running event loop."""
        options = self.connection
        return AsyncClient(options.server, timeout=self.timeout, token=options.token, tls=options.tls)

    def print_json(self, result: Any) -> None:
        """Print a result as one JSON value: dataclasses as objects with the same fields, numbers in full."""
        # not with rich, which would wrap long lines
        click.echo(json.dumps(as_plain(result), ensure_ascii=False, indent=2))

    def explain(self, error: LookalikeError, *, fields: bool = True) -> str:
        """Return one line for the user: what is wrong, and what to do where no server responds.

        Args:
            error: Why the call failed.
            fields: Whether to name the invalid flags; not where the line already says what is invalid.
        """
        if error.request_id is None and (failure := connection_failure(error.message)):
            return f"{self.server}: {failure.value}; {_hint(failure, self.connection.tls)}"
        if error.request_id is None and error.code is grpc.StatusCode.UNAVAILABLE:
            return (
                f"no server responds at {self.server}; start one with `make run`, or name another with --server"
                f" ({_first_line(error.message)})"
            )
        if error.request_id is None and error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"{_first_line(error.message)} (server {self.server}, see also --timeout)"
        return " ".join(in_flags(error, fields=fields).split())


pass_session = click.make_pass_decorator(Session)


class CommandFailed(click.ClickException):
    """An expected failure: one line on standard error, exit status 1."""

    def show(self, file: Any = None) -> None:
        """Print the line."""
        click.echo(f"lookalike: {self.message}", file=file or sys.stderr)


def open_console(*, to_stderr: bool = False) -> Console:
    """Return a console that prints text as it is: titles may contain what rich would read as markup."""
    stream = sys.stderr if to_stderr else sys.stdout
    return Console(
        stderr=to_stderr,
        markup=False,
        highlight=False,
        emoji=False,
        # a pipe has no width, and rich's default of 80 columns would wrap titles
        width=None if stream.isatty() else _WIDE,
    )


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """Return an empty table; the columns in `right` are aligned right."""
    result = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        result.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return result


def printable(text: str) -> str:
    """Replace the control characters with which data could control a terminal."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def as_plain(value: Any) -> Any:
    """Convert a value to the types of JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: as_plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, grpc.StatusCode):
        return value.name
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): as_plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(each) for each in value]
    return value


def _hint(failure: ConnectionFailure, tls: Tls | None) -> str:
    """Return what to do about a connection that failed."""
    match failure:
        case ConnectionFailure.EXPIRED | ConnectionFailure.NOT_YET_VALID:
            return "its operator must renew it, or this machine's clock is wrong"
        case ConnectionFailure.UNTRUSTED:
            return (
                "name the file of its CA with --ca" if tls and tls.ca is None else "--ca names the file of another CA"
            )
        case ConnectionFailure.WRONG_NAME:
            return "call it with --server by a name that is in the certificate"
        case ConnectionFailure.NOT_TLS:
            return "call it without --tls, --ca and --cert, or name another port with --server"
        case ConnectionFailure.CLIENT_CERTIFICATE | ConnectionFailure.CLOSED:
            if tls is None:
                return "try --tls, or --ca FILE where it has a CA of its own"
            if tls.certificate is None:
                return "try with a client certificate: --cert FILE --key FILE"
            return "--cert and --key may be of a CA that it does not trust, or have expired"


def _first_line(message: str) -> str:
    return (message.splitlines() or [""])[0]
