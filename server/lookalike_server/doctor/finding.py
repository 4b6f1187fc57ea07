"""What a check found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Fact = str | int | float | bool | None


class Status(StrEnum):
    """How it is: nothing to do, worth a look, the server would not start or work, or not looked at."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. Nothing in it is secret.

    Attributes:
        check: The check's name, which stays.
        status: How it is.
        message: What was found; of a check that was skipped, why.
        remedy: What to do; empty where there is nothing.
        facts: What was measured or read, by names that stay.
    """

    check: str
    status: Status
    message: str
    remedy: str = ""
    facts: Mapping[str, Fact] = field(default_factory=dict)

    def line(self) -> str:
        """Return it as one line."""
        text = f"{self.message}; {self.remedy}" if self.remedy else self.message
        return f"{self.status:<8} {self.check:<16} {' '.join(text.split())}"


def ok(check: str, message: str, **facts: Fact) -> Finding:
    """Return a finding with nothing to do."""
    return Finding(check, Status.OK, message, "", facts)


def warning(check: str, message: str, remedy: str, **facts: Fact) -> Finding:
    """Return a finding that is worth a look."""
    return Finding(check, Status.WARNING, message, remedy, facts)


def error(check: str, message: str, remedy: str = "", **facts: Fact) -> Finding:
    """Return a finding with which the server would not start or not work."""
    return Finding(check, Status.ERROR, message, remedy, facts)


def skipped(check: str, why: str) -> Finding:
    """Return that nothing was checked."""
    return Finding(check, Status.SKIPPED, why)
