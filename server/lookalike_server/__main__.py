"""The `lookalike-server` command: serve, reembed, health, backup, verify, vacuum, keys, show-config."""

from __future__ import annotations

import gc

# What imports make stays, so looking for garbage among it again and again only takes a tenth of their time.
gc.disable()

import asyncio
import faulthandler
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click
import uvloop
from threadpoolctl import threadpool_limits

from lookalike_server import __version__
from lookalike_server.allocator import return_freed_memory
from lookalike_server.app import serve
from lookalike_server.command_settings import data_option, fail, settings_options, settings_or_fail
from lookalike_server.config import load, load_settings
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.frontend.supervisor import supervise
from lookalike_server.keys_command import keys_command
from lookalike_server.reembed import ProgressLog, reembed
from lookalike_server.renamed import RenamedCommands
from lookalike_server.rpc.health import ProbeTls, ask_health
from lookalike_server.rpc.listening import dial_target
from lookalike_server.show_config import toml_lines
from lookalike_server.store.maintenance import backup, verify
from lookalike_server.store.vacuum import vacuum
from lookalike_server.telemetry import LogObserver, configure_log

gc.enable()


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
    settings = settings_or_fail(flags, config)
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
        fail(str(error))


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
    settings = settings_or_fail(flags, config)
    configure_log(settings.log_format, settings.log_level)
    return_freed_memory()
    # As Ctrl-C: a container sends SIGTERM, which would end the process without a word.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = reembed(settings, drop_missing=drop_missing, progress=ProgressLog(), observer=LogObserver())
    except LookalikeError as error:
        fail(str(error))
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
@partial(settings_options, names=("listen",))
@click.option("--target", help="HOST:PORT of the server.  [default: where the settings say that it listens]")
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
    help="The server's own certificate, trusted whatever its names are; without --tls and --ca."
    "  [default: the settings' tls_certificate_file]",
)
def health_command(
    config: Path | None,
    listen: str | None,
    target: str | None,
    timeout: float,
    *,
    own_certificate: Path | None,
    **options: Any,
) -> None:
    """Print a server's health; exit status 0 if it is SERVING, else 1.

    Without --target it asks the server that the settings describe: flags, LOOKALIKE_... variables and --config.
    """
    settings = settings_or_fail({"listen": listen}, config, complete=False)
    try:
        target = target or dial_target(settings.listen)
    except LookalikeError as error:
        fail(str(error))
    own_certificate = own_certificate or settings.tls_certificate_file
    health = ask_health(target, timeout, _probe_tls(own_certificate=own_certificate, **options))
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


@main.command("backup")
@data_option
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
def backup_command(data_dir: Path, target: Path) -> None:
    """Copy the catalog to the new file TARGET, also while it is served; restore it as DATA_DIR/catalog.sqlite."""
    try:
        products = backup(data_dir, target)
    except LookalikeError as error:
        fail(str(error))
    click.echo(f"{target}: {products} products")


@main.command("verify")
@data_option
def verify_command(data_dir: Path) -> None:
    """Check the catalog, also while it is served; exit status 1 if anything in it is damaged."""
    try:
        problems = 0
        for problem in verify(data_dir):
            click.echo(problem)
            problems += 1
    except LookalikeError as error:
        fail(str(error))
    click.echo(f"{data_dir}: {f'{problems} problems' if problems else 'no problems'}")
    sys.exit(1 if problems else 0)


@main.command("vacuum")
@data_option
def vacuum_command(data_dir: Path) -> None:
    """Give the space of deleted products back to the disk; not while the catalog is served.

    The command can be stopped at any time and goes on when it is run again.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    shown = -1

    def show(done: int, total: int) -> None:
        nonlocal shown
        if total and (percent := 100 * done // total) // 10 > shown // 10:
            shown = percent
            click.echo(f"{percent} % of {total / 1e6:,.1f} MB given back", err=True)

    try:
        before, after = vacuum(data_dir, show)
    except LookalikeError as error:
        fail(str(error))
    except KeyboardInterrupt:
        click.echo("lookalike-server: stopped; run the same command to go on", err=True)
        sys.exit(130)
    if shown < 0:
        click.echo(f"{data_dir}: nothing to give back, {after / 1e6:,.1f} MB")
    else:
        click.echo(f"{data_dir}: {before / 1e6:,.1f} MB before, {after / 1e6:,.1f} MB now")


main.add_command(keys_command)


@main.command("show-config")
@settings_options
def show_config_command(config: Path | None, **flags: str | None) -> None:
    """Print the settings in force as a file for --config: each with its description and where its value came from."""
    try:
        loaded = load(flags, config, complete=False)
    except LookalikeError as error:
        fail(str(error))
    for line in toml_lines(loaded):
        click.echo(line)


if __name__ == "__main__":
    main()
