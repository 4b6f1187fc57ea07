"""The report of a soak: a table for people and JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from support.soak.judge import HOUR, MIB, Finding
from support.soak.run import Soaked


def table(soaked: Sequence[Soaked]) -> list[str]:
    """Return a line for each quantity of each server."""
    lines = [f"{'server':<10} {'quantity':<12} {'at the end':>12} {'change':>26} {'limit':>12}  verdict"]
    for one in soaked:
        for found in one.findings:
            last = _number(found.quantity, getattr(one.samples[-1], found.quantity))
            cells = (last, _change(found), _limit(found))
            lines.append(
                "{:<10} {:<12} {:>12} {:>26} {:>12}  ".format(one.name, found.quantity, *cells) + found.verdict
            )
    for one in soaked:
        calls, seconds = sum(one.ended.values()), one.samples[-1].seconds
        found = one.finding("rss")
        seen = found.limit + 2 * found.margin
        lines.append(
            f"{one.name}: {calls} calls in {seconds:.0f} s, judged for {one.seconds:.0f} s; a leak of {seen:.1f} MiB/h,"
            f" {seen * MIB / HOUR * seconds / calls:.0f} bytes a call, would be seen"
        )
    return lines


def write_json(soaked: Sequence[Soaked], file: Path) -> None:
    """Write everything that was seen."""
    report = {
        one.name: {
            "calls": {f"{kind} {code}": count for (kind, code), count in sorted(one.ended.items())},
            "unexpected": list(one.unexpected),
            "judged_seconds": one.seconds,
            "findings": [asdict(found) | {"verdict": found.verdict} for found in one.findings],
            "samples": [asdict(sample) for sample in one.samples],
        }
        for one in soaked
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=1), encoding="utf-8")


def _change(found: Finding) -> str:
    if found.quantity == "rss":
        return f"{found.estimate:+.1f} ± {found.margin:.1f} MiB/h"
    return _number(found.quantity, found.estimate, "+")


def _limit(found: Finding) -> str:
    return f"{found.limit:.1f} MiB/h" if found.quantity == "rss" else _number(found.quantity, found.limit)


def _number(quantity: str, value: float, sign: str = "") -> str:
    if quantity in {"rss", "wal", "database"}:
        return f"{value / MIB:{sign}.1f} MiB"
    return f"{value:{sign}.0f}"
