"""`lookalike-server keys`: add, list and revoke API keys, also while the server runs, which reads the file again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from lookalike_server.commands.options import fail, setting_option
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.rpc.access.api_keys import ApiKey, new_certificate, new_key
from lookalike_server.rpc.access.identity import MAX_NAME, Role, is_name
from lookalike_server.rpc.access.keys_file import changing, read_keys

F = TypeVar("F", bound=Callable[..., Any])


def _file_option(command: F) -> F:
    """Add `--auth-keys-file`, which is required, to a command, which gets it as `path`."""

    @wraps(command)
    def with_path(auth_keys_file: Path | None, **given: Any) -> Any:
        if auth_keys_file is None:
            raise click.UsageError("the file of keys is missing: set --auth-keys-file or LOOKALIKE_AUTH_KEYS_FILE")
        return command(path=auth_keys_file, **given)

    return setting_option(with_path, name="auth_keys_file")  # type: ignore[return-value]


@click.group("keys")
def keys_command() -> None:
    """Add, list and revoke API keys. A server that is running obeys within a second, at its next call."""


@keys_command.command("add")
@click.argument("name")
@click.option(
    "--role",
    required=True,
    type=click.Choice([role.label for role in Role]),
    help="reader: search and read; writer: also store, update and delete; admin: everything.",
)
@click.option(
    "--category", "categories", multiple=True, help="A category that it may touch; repeatable. [default: all]"
)
@click.option(
    "--certificate",
    default="",
    metavar="NAME",
    help="Give the role to client certificates with this subject alternative name, instead of making a key.",
)
@_file_option
def add_command(name: str, role: str, categories: tuple[str, ...], certificate: str, path: Path) -> None:
    """Add a key for NAME, and print it; it is printed this once only. Keys with the same NAME share its quotas."""
    if not is_name(name):
        raise click.BadParameter(f"must be printable text of 1 to {MAX_NAME} characters", param_hint="NAME")
    if not all(categories):
        raise click.BadParameter("is empty; leave it out for all categories", param_hint="--category")
    within = frozenset(categories) or None
    created = datetime.now(UTC).isoformat(timespec="seconds")
    chosen = Role.named(role)
    assert chosen is not None  # noqa: S101 - click has checked it
    if certificate:
        entry, token = new_certificate(certificate, name, chosen, within, created), ""
    else:
        entry, token = new_key(name, chosen, within, created)
    with _failing(), changing(path) as entries:
        if certificate and any(each.certificate == certificate for each in entries):
            fail(f"{path} has the certificate {certificate} already; revoke its entry first")
        entries.append(entry)
    if token:
        click.echo(token)
        click.echo(f"key {entry.id} of {name} added to {path}; keep it safe, it cannot be shown again", err=True)
    else:
        click.echo(f"certificate {certificate} added to {path} as {entry.id} of {name}", err=True)


@keys_command.command("list")
@_file_option
def list_command(path: Path) -> None:
    """List the keys, without their secrets."""
    with _failing():
        entries = read_keys(path).entries
    rows = [("ID", "ROLE", "NAME", "CREATED", "CATEGORIES", "CERTIFICATE"), *map(_row, entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@keys_command.command("revoke")
@click.argument("key")
@_file_option
def revoke_command(key: str, path: Path) -> None:
    """Revoke a KEY, by its ID, or by its name where that has one key only."""
    with _failing(), changing(path) as entries:
        found = [each for each in entries if each.id == key] or [each for each in entries if each.identity.name == key]
        if not found:
            fail(f"{path} has no key {key!r}; `lookalike-server keys list` lists them")
        if len(found) > 1:
            fail(f"{key} has {len(found)} keys; name one by its ID: {', '.join(each.id for each in found)}")
        entries.remove(found[0])
    click.echo(f"key {found[0].id} of {found[0].identity.name} revoked", err=True)


def _row(entry: ApiKey) -> tuple[str, ...]:
    identity = entry.identity
    categories = "all" if identity.categories is None else ", ".join(sorted(identity.categories))
    return entry.id, identity.role.label, identity.name, entry.created, categories, entry.certificate


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except LookalikeError as error:
        fail(str(error))
