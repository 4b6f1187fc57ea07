"""What docs/operations.md says about each alert."""

from __future__ import annotations

import re

from support.paths import ROOT

PAGE = ROOT / "docs" / "operations.md"


def fenced_blocks(heading: str) -> list[str]:
    """Return the fenced blocks below a heading, without those of the next one."""
    _, _, section = PAGE.read_text(encoding="utf-8").partition(f"\n{heading}\n")
    section = re.split(r"^##", section, maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def first_command(alert: str) -> str:
    """Return the first command of an alert's runbook."""
    blocks = fenced_blocks(f"### {alert}")
    assert blocks, f"no runbook of {alert}, or no command in it"
    return blocks[0].strip()
