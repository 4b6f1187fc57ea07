"""The output of a run: a JSON file with everything, and a Markdown table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.scenarios.bench import Result
from benchmarks.scenarios.curves import Curve


def write_json(
    path: Path,
    about: Mapping[str, Any],
    results: Sequence[Result],
    curves: Mapping[str, Sequence[Curve]],
    skipped: Mapping[str, str],
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write everything that was measured, and on what."""
    whole = {
        "about": about,
        "results": [asdict(result) for result in results],
        "curves": {name: [asdict(curve) for curve in each] for name, each in curves.items()},
        "skipped": skipped,
    } | dict(more or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1, default=str) + "\n", encoding="utf-8")


def table(about: Mapping[str, Any], results: Sequence[Result], skipped: Mapping[str, str]) -> str:
    """Return the results beside what is required, as Markdown."""
    model, settings = about["model"], about["settings"]
    runtimes = ", ".join(f"{name} {about['versions'][name]}" for name in ("onnxruntime", "openvino"))
    lines = [
        f"### {model['name']} ({model['precision']})",
        "",
        f"{about['cpu']['model']} ({about['cpu']['kind']}), {about['cores']} cores; {runtimes}; "
        f"{settings['rounds']} paired rounds of "
        f"{settings['seconds']} s, concurrency {settings['concurrency']}; "
        f"commit {about['commit'][:10]}{' and uncommitted changes' if about['uncommitted_changes'] else ''}.",
        "",
        "| result | against | median | quartiles | required | |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        value = result.value
        met = {True: "met", False: "**missed**", None: ""}[result.met]
        lines.append(
            f"| {result.name} | {result.versus} | {value.median:.3f} | {value.low:.3f} .. {value.high:.3f} "
            f"| {result.bound} | {met} |"
        )
    lines += ["", *(f"Skipped: {name}: {reason}" for name, reason in skipped.items())]
    return "\n".join(lines).rstrip() + "\n"
