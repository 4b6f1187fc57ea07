"""Write the version in the file VERSION into every distribution, or check that it stands there."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = ("proto/python", "server", "clients/python", "clients/loadtest", "exporter")
CHART = "deploy/helm/lookalike/Chart.yaml"
MODULES = ("server/lookalike_server/__init__.py", "exporter/lookalike_exporter/__init__.py")
PLACES = re.compile(
    r'^((?:__)?version(?:__)? = ")[^"]+(?=")|("lookalike-(?:proto|client)==)[^"]+(?=")'
    r'|^((?:version|appVersion): "?)[^"\n]+',
    re.MULTILINE,
)
"""A distribution's own version, those of its siblings that it requires exactly, and the chart's and its image's."""


def main() -> int:
    """Write or check; exit status 1 where a file differs or has no version."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 where a file differs")
    check = parser.parse_args().check
    version = (ROOT / "VERSION").read_text(encoding="utf-8").strip()
    wrong = []
    for name in (*(f"{folder}/pyproject.toml" for folder in DISTRIBUTIONS), *MODULES, CHART):
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        after, places = PLACES.subn(lambda match: f"{match[1] or match[2] or match[3]}{version}", before)
        if not places:
            wrong.append(f"{name} has no version")
        elif after != before and check:
            wrong.append(f"{name} is not of version {version}; run `python tools/version.py`")
        elif after != before:
            path.write_text(after, encoding="utf-8")
    print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
