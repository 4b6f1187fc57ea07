"""What a run leaves behind: a JSON file with everything, and a Markdown table for a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.figures.bench import Figure
from benchmarks.figures.curves import Curve


def write_json(
    path: Path,
    about: Mapping[str, Any],
    figures: Sequence[Figure],
    curves: Mapping[str, Sequence[Curve]],
    skipped: Mapping[str, str],
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write everything that was measured, and on what."""
    whole = {
        "about": about,
        "figures": [asdict(figure) for figure in figures],
        "curves": {name: [asdict(curve) for curve in each] for name, each in curves.items()},
        "skipped": skipped,
    } | dict(more or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def table(about: Mapping[str, Any], figures: Sequence[Figure], skipped: Mapping[str, str]) -> str:
    """The figures beside what is demanded of them, as Markdown."""
    model, settings = about["model"], about["settings"]
    lines = [
        f"### {model['name']} ({model['precision']})",
        "",
        f"{about['cpu']['model']}, {about['cores']} cores; {settings['rounds']} paired rounds of "
        f"{settings['seconds']} s, {settings['callers']} callers; "
        f"commit {about['commit'][:10]}{' and uncommitted changes' if about['uncommitted_changes'] else ''}.",
        "",
        "| figure | against | median | quarter points | demanded | |",
        "|---|---|---|---|---|---|",
    ]
    for figure in figures:
        value = figure.value
        met = {True: "met", False: "**missed**", None: ""}[figure.met]
        lines.append(
            f"| {figure.name} | {figure.versus} | {value.median:.3f} | {value.low:.3f} .. {value.high:.3f} "
            f"| {figure.bound} | {met} |"
        )
    lines += ["", *(f"Skipped: {name}: {reason}" for name, reason in skipped.items())]
    return "\n".join(lines).rstrip() + "\n"
