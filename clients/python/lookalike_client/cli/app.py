"""The command group: global options, errors, and commands of other distributions."""

from __future__ import annotations

import signal
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

import click

from lookalike_client.cli.catalog import categories, delete, get, update
from lookalike_client.cli.completion import completion_option
from lookalike_client.cli.examples import epilog
from lookalike_client.cli.export_command import export
from lookalike_client.cli.image import image
from lookalike_client.cli.import_command import import_command
from lookalike_client.cli.query import embed, search
from lookalike_client.cli.quickstart import quickstart
from lookalike_client.cli.renamed import removed_command, renamed_option
from lookalike_client.cli.server import model, wait
from lookalike_client.cli.session import CommandFailed, Session, open_console
from lookalike_client.connection_options import DEFAULT_SERVER, OptionError, connection_options
from lookalike_client.errors import LookalikeError
from lookalike_client.tls import TlsError

_FILE = click.Path(dir_okay=False, path_type=Path)

_PLUGINS = "lookalike.commands"
"""The entry points with which other distributions, such as lookalike-loadtest, add commands."""

_NO_LOAD = "load tests need lookalike-loadtest, which is not installed: pip install lookalike-loadtest"


class _Group(click.Group):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Ctrl-C ends the process at once: a KeyboardInterrupt may be raised inside gRPC while it holds a lock, and
        # sometimes hangs. Only `import` and `load`, which print a report, and `export`, which removes files, handle
        # Ctrl-C. A process started with Ctrl-C ignored, as shells do in the background, keeps ignoring it.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        return super().__call__(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *entry_points(group=_PLUGINS).names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if command := super().get_command(ctx, cmd_name):
            return command
        for entry_point in entry_points(group=_PLUGINS, name=cmd_name):
            command = cast("click.Command", entry_point.load())
            command.epilog = command.epilog or epilog(cmd_name)
            return command
        if error := removed_command(cmd_name):
            raise error
        if cmd_name == "load":
            raise CommandFailed(_NO_LOAD)
        return None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            raise renamed_option(error) or error from None
        except LookalikeError as error:
            session = ctx.find_object(Session)
            raise CommandFailed(session.explain(error) if session else str(error)) from error
        except TlsError as error:
            raise CommandFailed(str(error)) from error


@click.group(
    cls=_Group,
    epilog=epilog(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--server",
    metavar="HOST:PORT",
    help=f"The server's address.  [env var: LOOKALIKE_CLIENT_SERVER; default: {DEFAULT_SERVER}]",
)
@click.option(
    "--token",
    metavar="TOKEN",
    help="Sent as a bearer token. Prefer a file or the variable: other users can see a command line."
    "  [env var: LOOKALIKE_CLIENT_TOKEN]",
)
@click.option(
    "--token-file", metavar="FILE", type=_FILE, help="A file of the token.  [env var: LOOKALIKE_CLIENT_TOKEN_FILE]"
)
@click.option(
    "--tls", is_flag=True, help="Encrypt the connection; trust the system's CAs.  [env var: LOOKALIKE_CLIENT_TLS=1]"
)
@click.option(
    "--ca",
    metavar="FILE",
    type=_FILE,
    help="Encrypt the connection; trust these CAs, PEM.  [env var: LOOKALIKE_CLIENT_CA]",
)
@click.option(
    "--cert",
    "certificate",
    metavar="FILE",
    type=_FILE,
    help="This client's certificate, PEM, for a server that requires one.  [env var: LOOKALIKE_CLIENT_CERT]",
)
@click.option("--key", metavar="FILE", type=_FILE, help="The certificate's key, PEM.  [env var: LOOKALIKE_CLIENT_KEY]")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="The deadline of one call.",
)
@click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")
@completion_option
@click.version_option(package_name="lookalike-client", prog_name="lookalike")
@click.pass_context
def main(
    ctx: click.Context,
    /,
    timeout: float,
    as_json: bool,
    **connection: Any,
) -> None:
    """Search a Lookalike server's catalog for similar images, and manage it."""
    try:
        options = connection_options(**connection)
    except OptionError as error:
        raise click.UsageError(str(error)) from error
    err = open_console(to_stderr=True)
    if options.warning:
        err.print(options.warning, style="bold red", soft_wrap=True)
    ctx.obj = Session(
        connection=options,
        timeout=timeout,
        as_json=as_json,
        out=open_console(),
        err=err,
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
    _command.epilog = epilog(str(_command.name))
    main.add_command(_command)
