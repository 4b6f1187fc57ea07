"""Settings as options of commands: every command takes them from flags, variables and a file alike."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from functools import partial, wraps
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from lookalike_server.config import Settings, flag
from lookalike_server.config_loading import load_settings
from lookalike_server.domain.errors import LookalikeError

F = TypeVar("F", bound=Callable[..., Any])


def settings_options(command: F, names: Collection[str] = Settings.model_fields) -> F:
    """Add a flag for each of these settings to a command; `load_settings` checks the values of flags and variables."""
    for name in reversed([name for name in Settings.model_fields if name in names]):
        field = Settings.model_fields[name]
        default = "" if field.is_required() else f" [default: {field.default}]"
        # A switch says in one word what its value would.
        switch: dict[str, Any] = {"is_flag": False, "flag_value": "true"} if field.annotation is bool else {}
        help_text = f"{field.description}{default}"
        command = click.option(flag(name), name, metavar="VALUE", help=help_text, **switch)(command)
        if field.default is True:
            # Hidden, because it only says the same in one word.
            command = click.option(f"--no-{flag(name)[2:]}", name, flag_value="false", hidden=True)(command)
    return click.option(
        "--config", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A TOML file of settings."
    )(command)


def setting_option(command: F, *, name: str) -> F:
    """Add `--config` and the flag of one setting to a command that needs no model.

    The command gets the setting's value by its name, wherever it was set.
    """

    @wraps(command)
    def with_value(config: Path | None, **given: Any) -> Any:
        settings = settings_or_fail({name: given.pop(name)}, config, complete=False)
        return command(**given, **{name: getattr(settings, name)})

    return settings_options(with_value, names=(name,))  # type: ignore[return-value]


data_option = partial(setting_option, name="data_dir")
"""Adds `--data-dir`, the folder of the catalog, to a command."""


def settings_or_fail(flags: dict[str, str | None], config: Path | None, *, complete: bool = True) -> Settings:
    """Load the settings; a wrong one ends the command."""
    try:
        return load_settings(flags, config, complete=complete)
    except LookalikeError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """End the command with one line on standard error and exit status 1."""
    click.echo(f"lookalike-server: {message}", err=True)
    sys.exit(1)
