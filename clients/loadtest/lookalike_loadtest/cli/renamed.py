"""Options of before the first release, and their names since: an error names the new one.

Deleted at 1.0.
"""

import click

OPTIONS = {
    "--callers": "--concurrency",
    "--ramp": "--find-capacity",
    "--photos": "--max-images",
    "--unique": "--bust-cache",
    "--repeat": "--allow-cache",
    "--mix": "--workload",
}


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
