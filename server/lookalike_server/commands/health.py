"""The `health` command, which probes call every few seconds: it imports little."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from lookalike_server.commands.options import fail, settings_options, settings_or_fail
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.renamed import RenamedFlags
from lookalike_server.rpc.health import ProbeTls, ask_health
from lookalike_server.rpc.listening import dial_target

_pem_file = click.Path(path_type=Path, dir_okay=False)


@click.command("health", cls=RenamedFlags)
@partial(settings_options, names=("listen",))
@click.option("--target", help="HOST:PORT of the server.  [default: where the settings say that it listens]")
@click.option("--service", default="", metavar="NAME", help="A service, or liveness, readiness or startup.")
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
    service: str,
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
    health = ask_health(target, timeout, _probe_tls(own_certificate=own_certificate, **options), service)
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
