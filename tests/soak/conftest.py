"""Prints the report of a soak at the end."""

from __future__ import annotations

import pytest

_report: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    for line in _report:
        terminalreporter.write_line(f"soak: {line}")


@pytest.fixture(scope="session")
def report() -> list[str]:
    """Lines for the end of the run."""
    return _report
