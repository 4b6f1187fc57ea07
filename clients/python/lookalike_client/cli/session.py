"""What all commands share: the global options, where output goes, and what a failure looks like."""

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
from lookalike_client.client import Client
from lookalike_client.errors import LookalikeError

INTERRUPTED = 130
"""The exit code of a command that was stopped with Ctrl-C, as shells have it."""

_WIDE = 160


@dataclass(frozen=True)
class Session:
    """One run of the command.

    Attributes:
        server: HOST:PORT.
        token: The bearer token, or None.
        timeout: Seconds a call may take.
        as_json: Whether results go to standard output as JSON, for programs.
        out: Standard output, for results.
        err: Standard error, for everything that is not a result.
    """

    server: str
    token: str | None
    timeout: float
    as_json: bool
    out: Console
    err: Console

    def client(self) -> Client:
        """A client for code without an event loop."""
        return Client(self.server, timeout=self.timeout, token=self.token)

    def async_client(self) -> AsyncClient:
        """A client for the event loop that runs."""
        return AsyncClient(self.server, timeout=self.timeout, token=self.token)

    def print_json(self, result: Any) -> None:
        """Print a result as one JSON value: dataclasses as objects with the same fields, numbers in full."""
        # not through rich, which would wrap long lines
        click.echo(json.dumps(as_plain(result), ensure_ascii=False, indent=2))

    def explain(self, error: LookalikeError) -> str:
        """One line for the user: what is wrong, and what to do where the server does not answer at all."""
        if error.request_id is None and error.code is grpc.StatusCode.UNAVAILABLE:
            return (
                f"no server answers at {self.server}; start one with `make run`, or name another with --server"
                f" ({_first_line(error.message)})"
            )
        if error.request_id is None and error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"{_first_line(error.message)} (server {self.server}, see also --timeout)"
        return " ".join(str(error).split())


pass_session = click.make_pass_decorator(Session)


class CommandFailed(click.ClickException):
    """An expected failure: one line on standard error, exit code 1."""

    def show(self, file: Any = None) -> None:
        """Print the line."""
        click.echo(f"lookalike: {self.message}", file=file or sys.stderr)


def open_console(*, to_stderr: bool = False) -> Console:
    """A console that prints text as it is: titles may hold what rich would take for markup."""
    stream = sys.stderr if to_stderr else sys.stdout
    return Console(
        stderr=to_stderr,
        markup=False,
        highlight=False,
        emoji=False,
        # a pipe has no width, and rich's 80 columns would cut titles
        width=None if stream.isatty() else _WIDE,
    )


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table; the columns in `right` hold numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def printable(text: str) -> str:
    """The text without the control characters with which data could drive a terminal."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def as_plain(value: Any) -> Any:
    """A value in the types that JSON has."""
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


def _first_line(message: str) -> str:
    return (message.splitlines() or [""])[0]
