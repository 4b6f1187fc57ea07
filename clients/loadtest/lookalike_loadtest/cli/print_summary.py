"""A load test's report on the terminal."""

from __future__ import annotations

from typing import Any

from lookalike_client.cli.session import Session, printable, table
from lookalike_loadtest.histogram import FEW
from lookalike_loadtest.summary import milliseconds

_SHOWN = ("50", "90", "99", "99.9")


def print_summary(session: Session, report: dict[str, Any]) -> None:
    """Print the summary, the warnings, and the figures."""
    session.out.print(printable(report["summary"]), soft_wrap=True)
    for warning in report["warnings"]:
        session.out.print(printable(f"- {warning}"), soft_wrap=True)
    if report["capacity"]:
        _print_steps(session, report["capacity"])
    measured = report["measurement"]
    if not measured or not measured["calls"]:
        return
    session.out.print()
    columns = ("answers", *(f"p{each}" for each in _SHOWN), "slowest", "failed")
    rows = table("", *columns, right=columns)
    rows.add_row("latency", *_cells(measured["latency"]), f"{measured['failed']:,}")
    if len(measured["kinds"]) > 1:
        for name, kind in measured["kinds"].items():
            rows.add_row(f"  {name}", *_cells(kind["latency"]), f"{kind['failed']:,}")
    if measured["rate"] is not None:
        rows.add_row("from the actual send", *_cells(measured["service"]), "")
        rows.add_row("sent late by", *_cells(measured["tester"]["lag"]), "")
    session.out.print(rows)
    if measured["latency"] and measured["latency"]["percentiles"]["99.9"]["calls_beyond"] < FEW:
        session.out.print(f"~ fewer than {FEW} calls lie beyond it, so it says little", style="dim")
    _print_failures(session, measured["codes"])


def _cells(times: dict[str, Any] | None) -> list[str]:
    if times is None:
        return ["0", *["-"] * (len(_SHOWN) + 1)]
    points = (times["percentiles"][each] for each in _SHOWN)
    shown = [("~" if point["calls_beyond"] < FEW else "") + milliseconds(point["ms"]) for point in points]
    return [f"{times['count']:,}", *shown, milliseconds(times["max"])]


def _print_failures(session: Session, codes: dict[str, Any]) -> None:
    for name, code in codes.items():
        if name != "OK":
            message = f": {code['first_message']}" if code["first_message"] else ""
            session.out.print(printable(f"{code['calls']:,} x {name}{message}"), soft_wrap=True)


def _print_steps(session: Session, capacity: dict[str, Any]) -> None:
    right = ("calls/s", "p50", "p99", "failed", "calls")
    rows = table("calls/s", "goal met", "p50", "p99", "failed", "calls", "why not", right=right)
    for step in capacity["steps"]:
        rows.add_row(
            f"{step['rate']:,.1f}",
            "yes" if step["met"] else "no",
            milliseconds(step["p50"]),
            milliseconds(step["p99"]),
            f"{step['failed_share']:.2%}",
            f"{step['calls']:,}",
            printable(step["reason"]),
        )
    session.out.print()
    session.out.print(rows)
