"""The command group: global options, and how failures leave."""

from __future__ import annotations

import signal
from importlib.metadata import entry_points
from typing import Any

import click

from lookalike_client.cli.catalog import categories, delete, get, update
from lookalike_client.cli.export_command import export
from lookalike_client.cli.image import image
from lookalike_client.cli.import_command import import_command
from lookalike_client.cli.query import embed, search
from lookalike_client.cli.quickstart import quickstart
from lookalike_client.cli.server import model, wait
from lookalike_client.cli.session import CommandFailed, Session, open_console
from lookalike_client.errors import LookalikeError


class _Group(click.Group):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Ctrl-C ends the process at once, as it ends most commands. A KeyboardInterrupt instead may rise inside gRPC
        # while it holds a lock, and now and then hangs it; only `import` and `load`, which have a report to give,
        # and `export`, which has files to tidy up, take Ctrl-C themselves. Who started the process with Ctrl-C ignored,
        # as shells do in the background, has a reason.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        return super().__call__(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LookalikeError as error:
            session = ctx.find_object(Session)
            raise CommandFailed(session.explain(error) if session else str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--server",
    metavar="HOST:PORT",
    default="127.0.0.1:50051",
    show_default=True,
    envvar="LOOKALIKE_CLIENT_SERVER",
    show_envvar=True,
    help="Where the server listens.",
)
@click.option(
    "--token",
    metavar="TOKEN",
    envvar="LOOKALIKE_CLIENT_TOKEN",
    show_envvar=True,
    help="Sent as a bearer token. Better set in the environment, where a list of processes does not show it.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="How long one call may take.",
)
@click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")
@click.version_option(package_name="lookalike-client", prog_name="lookalike")
@click.pass_context
def main(ctx: click.Context, server: str, token: str | None, timeout: float, as_json: bool) -> None:
    """Ask a Lookalike server which products look like an image."""
    ctx.obj = Session(
        server=server,
        token=token,
        timeout=timeout,
        as_json=as_json,
        out=open_console(),
        err=open_console(to_stderr=True),
    )


for _command in (
    embed,
    search,
    import_command,
    export,
    get,
    image,
    update,
    delete,
    categories,
    model,
    wait,
    quickstart,
):
    main.add_command(_command)

for _entry_point in entry_points(group="lookalike.commands"):  # of other distributions, such as lookalike-loadtest
    main.add_command(_entry_point.load())
