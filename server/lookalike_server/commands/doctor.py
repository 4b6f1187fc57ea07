"""The `doctor` command."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lookalike_server.commands.options import settings_options
from lookalike_server.doctor.command import run_doctor
from lookalike_server.renamed import RenamedFlags


@click.command("doctor", cls=RenamedFlags)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
@settings_options
def doctor_command(config: Path | None, *, as_json: bool, **flags: str | None) -> None:
    """Check this machine for a server with these settings, and say what to do; exit status 1 if it would not work.

    It takes the settings of `serve` from the same places. A server may run meanwhile.
    """
    sys.exit(run_doctor(flags, config, as_json=as_json))
