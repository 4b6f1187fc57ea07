"""Commands and options of before the first release, and their names since: an error names the new one.

Deleted at 1.0.
"""

import click

from lookalike_exporter.output.schema import V1_OPTIONS

COMMANDS = {"repeat": "reproduce"}
OPTIONS = {**V1_OPTIONS, "--most": "--max-images"}


class Commands(click.Group):
    """A group whose renamed commands are errors that name the new ones."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Look up a command; fail for a renamed one."""
        if cmd_name in COMMANDS:
            ctx.fail(f"The command {cmd_name} has been renamed to {COMMANDS[cmd_name]}.")
        return super().get_command(ctx, cmd_name)


class Command(click.Command):
    """A command whose renamed options are errors that name the new ones."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; fail for a renamed option."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name in OPTIONS:
                ctx.fail(f"The option {error.option_name} has been renamed to {OPTIONS[error.option_name]}.")
            raise
