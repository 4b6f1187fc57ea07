"""The command `doctor`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import click

from lookalike_server import __version__
from lookalike_server.config_loading import load_settings
from lookalike_server.doctor.checks import all_checks
from lookalike_server.doctor.finding import Finding, Status, error, ok
from lookalike_server.domain.errors import LookalikeError


def run_doctor(flags: Mapping[str, str | None], config: Path | None, *, as_json: bool) -> int:
    """Check everything, print what was found, and return the exit status.

    Args:
        flags: The settings of the command line.
        config: The file of settings.
        as_json: Print one JSON object instead of a line for each check.
    """
    try:
        settings = load_settings(flags, config)
    except LookalikeError as problem:
        findings = iter([error("settings", problem.message)])
    else:
        findings = chain([ok("settings", "every setting has a value that can be")], all_checks(settings))
    seen = []
    for finding in findings:
        seen.append(finding)
        if not as_json:
            click.echo(finding.line())
    worst = summary_status(seen)
    if as_json:
        click.echo(json.dumps(report(seen), indent=2))
    else:
        counts = Counter(finding.status for finding in seen)
        click.echo(", ".join(_counted(status, counts[status]) for status in Status if counts[status]))
    return 1 if worst is Status.ERROR else 0


def _counted(status: Status, count: int) -> str:
    plural = "s" if status in (Status.WARNING, Status.ERROR) and count > 1 else ""
    return f"{count} {status}{plural}"


def summary_status(findings: list[Finding]) -> Status:
    """Return the worst status."""
    found = {finding.status for finding in findings}
    return next((each for each in (Status.ERROR, Status.WARNING) if each in found), Status.OK)


def report(findings: list[Finding]) -> dict[str, Any]:
    """Return what `--json` prints; its keys stay."""
    return {
        "version": __version__,
        "status": summary_status(findings),
        "checks": [
            {
                "check": finding.check,
                "status": finding.status,
                "message": finding.message,
                "remedy": finding.remedy,
                "facts": dict(finding.facts),
            }
            for finding in findings
        ],
    }
