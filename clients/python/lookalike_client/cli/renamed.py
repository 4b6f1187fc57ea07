"""Names of before the first release, and the errors that give the new ones; deleted at 1.0."""

from __future__ import annotations

import click

_COMMANDS = {"sample": "make the sample catalog with `python -m tools.sample_catalog` in a checkout"}

_OPTIONS = {("import", "--in-flight"): "--concurrency"}


def removed_command(name: str) -> click.UsageError | None:
    """Return the error for a command that was removed; None for every other name."""
    return click.UsageError(f"The command {name} was removed: {_COMMANDS[name]}.") if name in _COMMANDS else None


def renamed_option(error: click.NoSuchOption) -> click.UsageError | None:
    """Return the error for an option that was renamed; None for every other unknown option."""
    command = error.ctx.info_name if error.ctx else None
    new = _OPTIONS.get((command or "", error.option_name))
    return click.UsageError(f"{error.option_name} was renamed to {new}.", error.ctx) if new else None
