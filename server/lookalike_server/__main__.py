"""The `lookalike-server` command: serve, rebuild, health, backup, verify, show-config."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import uvloop
from threadpoolctl import threadpool_limits

from lookalike_server import __version__
from lookalike_server.app import serve
from lookalike_server.config import Settings, load_settings
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.frontend.supervisor import supervise
from lookalike_server.reembed import ProgressLog, reembed
from lookalike_server.rpc.health import ask_health
from lookalike_server.store.maintenance import backup, verify
from lookalike_server.telemetry import LogObserver, configure_log

F = TypeVar("F", bound=Callable[..., Any])


def settings_options(command: F, names: Collection[str] = Settings.model_fields) -> F:
    """Give a command a flag for each of these settings; values are checked where variables are, in `load_settings`."""
    for name in reversed([name for name in Settings.model_fields if name in names]):
        field = Settings.model_fields[name]
        default = "" if field.is_required() else f" [default: {field.default}]"
        flag = f"--{name.replace('_', '-')}"
        command = click.option(flag, name, metavar="VALUE", help=f"{field.description}{default}")(command)
    return click.option(
        "--config", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A TOML file of settings."
    )(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Embed images in batches and find the products that look like them, over gRPC.

    Every setting can also be given as LOOKALIKE_<NAME> in the environment or in a TOML file; flags come first.
    """


@main.command("serve")
@settings_options
def serve_command(config: Path | None, **flags: str | None) -> None:
    """Serve until SIGTERM, then finish the calls under way."""
    settings = _settings(flags, config)
    configure_log(settings.log_format, settings.log_level)
    # Calls are served side by side; a matrix product on every core would have them wait for one another's threads.
    threadpool_limits(limits=1, user_api="blas")
    try:
        if settings.frontend_processes:
            supervise(settings)
            return
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except LookalikeError as error:
        _fail(str(error))


_REEMBED_SETTINGS = (
    *(
        "model",
        "data_dir",
        "provider",
        "inference_precision",
        "cuda_graphs",
        "cudnn_conv_algo_search",
        "cuda_prefer_nhwc",
        "cuda_use_tf32",
    ),
    *("intra_op_threads", "max_batch_size", "max_concurrent_batches", "preferred_batch_size"),
    *("decode_threads", "log_format", "log_level"),
)


@main.command("reembed")
@partial(settings_options, names=_REEMBED_SETTINGS)
@click.option("--drop-missing", is_flag=True, help="Remove the products that cannot be embedded again.")
def reembed_command(config: Path | None, drop_missing: bool, **flags: str | None) -> None:
    """Make a catalog another model's, by embedding the images it keeps; not while it is served.

    It can be stopped at any time, and goes on there when it is started again; until its end nothing is changed.
    """
    settings = _settings(flags, config)
    configure_log(settings.log_format, settings.log_level)
    # As Ctrl-C: in a container nothing else would happen at all.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        done = reembed(settings, drop_missing=drop_missing, progress=ProgressLog(), observer=LogObserver())
    except LookalikeError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        click.echo(
            "lookalike-server: stopped; the same command goes on from here, and the old model can serve", err=True
        )
        sys.exit(130)
    of = f"{settings.data_dir} is of model {done.model.name} ({done.model.digest[:12]})"
    if not done.changed:
        click.echo(f"{of} already: nothing to do")
        return
    earlier = f" and {done.found:,} before" if done.found else ""
    click.echo(f"{of} now: {done.products:,} products, {done.embedded:,} images embedded{earlier}")
    if drop_missing:
        click.echo(f"{done.dropped:,} removed that could not be embedded again")


@main.command("health")
@click.option("--target", default="127.0.0.1:50051", show_default=True, help="HOST:PORT of the server.")
@click.option("--timeout", default=3.0, show_default=True, help="Seconds to wait for its answer.")
def health_command(target: str, timeout: float) -> None:
    """Ask a server whether it serves: exit status 0 if so, 1 if not."""
    answer = ask_health(target, timeout)
    click.echo(answer)
    sys.exit(0 if answer == "SERVING" else 1)


_data_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data"),
    envvar="LOOKALIKE_DATA_DIR",
    show_default=True,
    help="The folder of the catalog.",
)


@main.command("backup")
@_data_option
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
def backup_command(data: Path, target: Path) -> None:
    """Copy the catalog to the new file TARGET, also while it is served. As DATA/catalog.sqlite it is one again."""
    try:
        products = backup(data, target)
    except LookalikeError as error:
        _fail(str(error))
    click.echo(f"{target}: {products} products")


@main.command("verify")
@_data_option
def verify_command(data: Path) -> None:
    """Look through the catalog, also while it is served; exit status 1 when anything in it is broken."""
    try:
        problems = 0
        for problem in verify(data):
            click.echo(problem)
            problems += 1
    except LookalikeError as error:
        _fail(str(error))
    click.echo(f"{data}: {'whole' if not problems else f'{problems} problems'}")
    sys.exit(1 if problems else 0)


@main.command("show-config")
@settings_options
def show_config_command(config: Path | None, **flags: str | None) -> None:
    """Print the settings in force, with what each means."""
    settings = _settings(flags, config)
    for name, field in Settings.model_fields.items():
        click.echo(f"# {field.description}\n{name} = {getattr(settings, name)}")


def _settings(flags: dict[str, str | None], config: Path | None) -> Settings:
    try:
        return load_settings(flags, config)
    except LookalikeError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    click.echo(f"lookalike-server: {message}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
