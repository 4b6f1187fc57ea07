"""The `lookalike-server` command: each of its commands is imported when it is called, as most need little."""

from __future__ import annotations

import gc
import os
from importlib import import_module
from typing import Any

import click

from lookalike_server import __version__
from lookalike_server.commands.examples import epilog
from lookalike_server.renamed import RenamedCommands

_COMMANDS = {
    "serve": "serve",
    "doctor": "doctor",
    "health": "health",
    "backup": "catalog",
    "verify": "catalog",
    "vacuum": "catalog",
    "reembed": "reembed",
    "keys": "keys",
    "show-config": "show_config",
}
"""The module of each command in `lookalike_server.commands`, where `serve_command` is `serve`."""


class Commands(RenamedCommands):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List all commands."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None where there is none of this name."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        # What imports make stays, so looking for garbage among it again and again only takes a tenth of their time.
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            module = import_module(f"lookalike_server.commands.{_COMMANDS[cmd_name]}")
        finally:
            if was_enabled:
                gc.enable()
        command: Any = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        command.epilog = epilog(cmd_name)
        return command  # type: ignore[no-any-return]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Embed images in batches and search for products that look like them, over gRPC.

    Every setting can also be set as LOOKALIKE_<NAME> in the environment or in a TOML file; flags override both.
    """
    os.umask(0o077)  # catalogs, backups and keys are their owner's alone


if __name__ == "__main__":
    main()
