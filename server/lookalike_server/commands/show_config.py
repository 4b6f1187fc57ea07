"""The `show-config` command: the settings in force as a TOML file that the server reads, with their sources."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from lookalike_server.commands.options import fail, settings_options
from lookalike_server.config import Settings
from lookalike_server.config_loading import Loaded, load
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.renamed import RenamedFlags


@click.command("show-config", cls=RenamedFlags)
@settings_options
def show_config_command(config: Path | None, **flags: str | None) -> None:
    """Print the settings in force as a file for --config: each with its description and where its value came from."""
    try:
        loaded = load(flags, config, complete=False)
    except LookalikeError as error:
        fail(str(error))
    for line in toml_lines(loaded):
        click.echo(line)


def toml_lines(loaded: Loaded) -> Iterator[str]:
    """Yield for each setting its description and its value; one without a value is a comment."""
    for name, field in Settings.model_fields.items():
        value = getattr(loaded.settings, name)
        yield f"# {field.description}"
        if field.is_required() and loaded.sources[name] == "default":
            yield f'# {name} = ""  # required, not set'
        elif value is None:
            yield f'# {name} = ""  # not set'
        else:
            yield f"{name} = {_toml(value)}  # {loaded.sources[name]}"


def _toml(value: Any) -> str:
    """Write a value; a text of TOML is one of JSON but for DEL."""
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower()
