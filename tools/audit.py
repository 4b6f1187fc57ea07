"""`make audit`: ask pip-audit for known vulnerabilities of the packages in every lock file.

Exit status 0: all were asked about and none is known; 1: some are known; 69: some could not be asked about, as on a
network whose package index has no vulnerabilities to ask for, which is no pass.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.licenses import ROOT, lock_files

UNAVAILABLE = 69
"""EX_UNAVAILABLE of sysexits.h."""


@dataclass
class Findings:
    """What pip-audit says of some lock files.

    Attributes:
        vulnerable: Lines of a package, its version, the vulnerability and the versions that fix it.
        asked: Packages with an answer, as name==version.
        unasked: What has no answer, with the reason.
    """

    vulnerable: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    unasked: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """Return the exit status."""
        if self.vulnerable:
            return 1
        return UNAVAILABLE if self.unasked or not self.asked else 0

    def add(self, lock: str, output: str, errors: str) -> None:
        """Take what pip-audit printed about a lock file."""
        try:
            report = json.loads(output)
        except ValueError:
            lines = errors.strip().splitlines()
            self.unasked[lock] = lines[-1] if lines else "pip-audit printed nothing"
            return
        for package in report["dependencies"]:
            if reason := package.get("skip_reason"):
                self.unasked[package["name"]] = reason
                continue
            pin = f"{package['name']}=={package['version']}"
            self.asked.add(pin)
            for one in package["vulns"]:
                fixed = ", ".join(one["fix_versions"]) or "no version"
                self.vulnerable.add(f"{pin} ({lock}): {one['id']}, fixed in {fixed}")


def main(arguments: Sequence[str]) -> int:
    """Ask about lock files, by default about all, and print the findings."""
    findings = Findings()
    for lock in map(Path, arguments or map(str, lock_files())):
        name = str(lock.resolve().relative_to(ROOT))
        findings.add(name, *_ask(lock))
    for line in sorted(findings.vulnerable):
        print(f"audit: {line}")
    if findings.unasked:
        name, reason = next(iter(sorted(findings.unasked.items())))
        print(f"audit: NOT AUDITED: {len(findings.unasked)} could not be asked about, as {name}: {reason}")
    print(f"audit: {len(findings.asked)} packages audited, {len(findings.vulnerable)} known vulnerabilities")
    return findings.status


def _ask(lock: Path) -> tuple[str, str]:
    program = Path(sys.executable).with_name("pip-audit")
    options = ("--disable-pip", "--no-deps", "--format", "json", "--progress-spinner", "off")
    done = subprocess.run([program, *options, "-r", lock], capture_output=True, text=True, check=False)
    return done.stdout, done.stderr


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
