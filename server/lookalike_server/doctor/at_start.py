"""The short form of the doctor, which `serve` runs first: one line in the log."""

from __future__ import annotations

import structlog

from lookalike_server.config import Settings
from lookalike_server.doctor.checks import quick_checks
from lookalike_server.doctor.finding import Status


def log_machine(settings: Settings) -> None:
    """Log `machine_checked`, with a field for each check that found something; takes milliseconds and never raises."""
    findings = list(quick_checks(settings))
    noticed = {each.check: each.message for each in findings if each.status not in (Status.OK, Status.SKIPPED)}
    log = structlog.get_logger()
    if noticed:
        log.warning("machine_checked", checks=len(findings), **noticed, remedy="lookalike-server doctor")
    else:
        log.info("machine_checked", checks=len(findings))
