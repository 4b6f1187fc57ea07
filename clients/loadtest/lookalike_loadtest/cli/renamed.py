"""Options of before the first release, and their names since: an error names the new one.

Deleted at 1.0.
"""

from typing import ClassVar

import click


class Command(click.Command):
    """A command whose renamed options are errors that name the new ones.

    Attributes:
        options: The new names, by the old ones.
    """

    options: ClassVar = {
        "--callers": "--concurrency",
        "--ramp": "--find-capacity",
        "--photos": "--max-images",
        "--unique": "--bust-cache",
        "--repeat": "--allow-cache",
        "--mix": "--workload",
    }

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; fail for a renamed option."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name in self.options:
                ctx.fail(f"The option {error.option_name} has been renamed to {self.options[error.option_name]}.")
            raise
