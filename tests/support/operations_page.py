"""What docs/operations.md says about each alert."""

from __future__ import annotations

import re

from support.paths import ROOT

PAGE = ROOT / "docs" / "operations.md"


def first_command(alert: str) -> str:
    """Return the first command of an alert's runbook."""
    _, _, section = PAGE.read_text(encoding="utf-8").partition(f"\n### {alert}\n")
    assert section, f"no runbook of {alert}"
    section = re.split(r"^##", section, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.search(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert found, f"no command in the runbook of {alert}"
    return found[1].strip()
