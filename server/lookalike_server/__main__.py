"""The `lookalike-server` command: serve, reembed, health, backup, verify, keys, show-config."""

from __future__ import annotations

import asyncio
import faulthandler
import os
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
from lookalike_server.allocator import return_freed_memory
from lookalike_server.app import serve
from lookalike_server.config import Settings, flag, load_settings
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.frontend.supervisor import supervise
from lookalike_server.keys_command import keys_command
from lookalike_server.reembed import ProgressLog, reembed
from lookalike_server.renamed import RenamedCommands, reject_old_variable
from lookalike_server.rpc.health import ProbeTls, ask_health
from lookalike_server.store.maintenance import backup, verify
from lookalike_server.telemetry import LogObserver, configure_log

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


@click.group(cls=RenamedCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Embed images in batches and search for products that look like them, over gRPC.

    Every setting can also be set as LOOKALIKE_<NAME> in the environment or in a TOML file; flags override both.
    """
    os.umask(0o077)  # catalogs, backups and keys are their owner's alone


@main.command("serve")
@settings_options
def serve_command(config: Path | None, **flags: str | None) -> None:
    """Serve until SIGTERM, then finish the running calls; SIGHUP reloads what can be."""
    settings = _settings(flags, config)
    read_settings = partial(load_settings, flags, config)
    configure_log(settings.log_format, settings.log_level)
    return_freed_memory()
    # A crash of native code ends the process; without this it would do so without a word.
    if sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)
    # Calls run concurrently: if each used every core for its matrix product, they would wait for each other's threads.
    threadpool_limits(limits=1, user_api="blas")
    try:
        if settings.frontend_processes:
            supervise(settings, read_settings=read_settings)
            return
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, read_settings=read_settings))
    except LookalikeError as error:
        _fail(str(error))


_REEMBED_SETTINGS = (
    *("model", "data_dir", "provider", "inference_precision", "autotune_cache"),
    *("cuda_graphs", "cudnn_conv_algo_search", "cuda_prefer_nhwc", "cuda_use_tf32"),
    *("intra_op_threads", "max_batch_size", "max_concurrent_batches", "preferred_batch_size"),
    *("decode_threads", "log_format", "log_level"),
)


@main.command("reembed")
@partial(settings_options, names=_REEMBED_SETTINGS)
@click.option("--drop-missing", is_flag=True, help="Delete the products that cannot be embedded again.")
def reembed_command(config: Path | None, drop_missing: bool, **flags: str | None) -> None:
    """Embed the stored images of a catalog with another model, and bind the catalog to it; not while it is served.

    The command can be stopped at any time and resumes when it is run again; nothing changes before it ends.
    """
    settings = _settings(flags, config)
    configure_log(settings.log_format, settings.log_level)
    return_freed_memory()
    # As Ctrl-C: a container sends SIGTERM, which would end the process without a word.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = reembed(settings, drop_missing=drop_missing, progress=ProgressLog(), observer=LogObserver())
    except LookalikeError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        click.echo("lookalike-server: stopped; run the same command to resume. The old model can still serve", err=True)
        sys.exit(130)
    model = f"model {result.model.name} ({result.model.digest[:12]})"
    if not result.changed:
        click.echo(f"{settings.data_dir} already has the embeddings of {model}; nothing to do")
        return
    earlier = f", {result.resumed:,} by an earlier run" if result.resumed else ""
    embedded = f"{result.products:,} products, {result.embedded:,} images embedded{earlier}"
    click.echo(f"{settings.data_dir} now has the embeddings of {model}: {embedded}")
    if drop_missing:
        click.echo(f"{result.dropped:,} products deleted that could not be embedded again")


_pem_file = click.Path(path_type=Path, dir_okay=False)


@main.command("health")
@click.option("--target", default="127.0.0.1:50051", show_default=True, help="HOST:PORT of the server.")
@click.option("--timeout", default=3.0, show_default=True, help="Seconds to wait for the response.")
@click.option("--tls", is_flag=True, help="Encrypt the connection; trust the CAs that gRPC trusts.")
@click.option("--ca", type=_pem_file, metavar="FILE", help="Encrypt the connection; trust these CAs, PEM.")
@click.option("--cert", type=_pem_file, metavar="FILE", help="A certificate, PEM, for a server that requires one.")
@click.option("--key", type=_pem_file, metavar="FILE", help="The certificate's key, PEM.")
@click.option("--server-name", metavar="NAME", help="The name in the server's certificate.  [default: the host]")
@click.option(
    "--own-certificate",
    type=_pem_file,
    metavar="FILE",
    envvar="LOOKALIKE_TLS_CERTIFICATE_FILE",
    show_envvar=True,
    help="The server's own certificate, trusted whatever its names are; without --tls and --ca.",
)
def health_command(target: str, timeout: float, *, tls: bool, **files: Any) -> None:
    """Print a server's health; exit status 0 if it is SERVING, else 1."""
    health = ask_health(target, timeout, _probe_tls(tls=tls, **files))
    click.echo(health)
    sys.exit(0 if health == "SERVING" else 1)


def _probe_tls(
    *,
    tls: bool,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    server_name: str | None,
    own_certificate: Path | None,
) -> ProbeTls | None:
    own = None if tls or ca else own_certificate
    return ProbeTls(ca, cert, key, server_name, own) if tls or ca or cert or key or own else None


_data_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data"),
    envvar="LOOKALIKE_DATA_DIR",
    callback=reject_old_variable,
    show_default=True,
    help="The folder of the catalog.",
)


@main.command("backup")
@_data_option
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
def backup_command(data_dir: Path, target: Path) -> None:
    """Copy the catalog to the new file TARGET, also while it is served; restore it as DATA_DIR/catalog.sqlite."""
    try:
        products = backup(data_dir, target)
    except LookalikeError as error:
        _fail(str(error))
    click.echo(f"{target}: {products} products")


@main.command("verify")
@_data_option
def verify_command(data_dir: Path) -> None:
    """Check the catalog, also while it is served; exit status 1 if anything in it is damaged."""
    try:
        problems = 0
        for problem in verify(data_dir):
            click.echo(problem)
            problems += 1
    except LookalikeError as error:
        _fail(str(error))
    click.echo(f"{data_dir}: {f'{problems} problems' if problems else 'no problems'}")
    sys.exit(1 if problems else 0)


main.add_command(keys_command)


@main.command("show-config")
@settings_options
def show_config_command(config: Path | None, **flags: str | None) -> None:
    """Print the settings in force, each with its description."""
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
