"""`make licenses`: write docs/licenses.md, which names the license of every package in a lock file.

A license is read from the metadata of an environment that has the package. Where none has it (it is for another
system, or for an environment that is not there), the page keeps what it said; a package that is new there has its wheel
asked, which pip downloads for that.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licenses.md"
NPM_LOCK = ROOT / "clients/typescript/package-lock.json"

_INTRO = """\
# Licenses

Every package in a lock file, its license, and the lock files that it is in (`server-gpu` is
`server/requirements-gpu.lock`; `tests` is what the development environment has, the clients'
packages included). `make licenses` writes this page; a test checks it against the lock files, the
installed packages and [tools/licenses.toml](../tools/licenses.toml), which has the licenses that
are allowed and the reasons of exceptions. An expression with OR is a choice, one with AND binds to
all. What wheels contain beside their own code is as their metadata says it.

The Go and Java examples are not covered: their packages are in `clients/go/go.mod` and
`clients/java/pom.xml`, and nothing of them is in a package of ours.

## Python

| package | license | lock files |
|---|---|---|
"""
_NPM_INTRO = """
## TypeScript example

| package | license |
|---|---|
"""


@dataclass(frozen=True)
class Policy:
    """tools/licenses.toml.

    Attributes:
        allowed: SPDX identifiers.
        names: What metadata says in words, to SPDX identifiers.
        judged: Packages to their license, where that is not allowed in general or not in the metadata.
        reasons: Packages to why that is accepted.
    """

    allowed: frozenset[str]
    names: Mapping[str, str]
    judged: Mapping[str, str]
    reasons: Mapping[str, str]

    def license_of(self, name: str, metadata: Mapping[str, Any]) -> str:
        """Return an SPDX expression, or "unknown", from metadata in the form of PEP 566's JSON."""
        return self.judged.get(name) or _from_metadata(metadata, self.names)

    def accepts(self, name: str, expression: str) -> bool:
        """Return whether a package may have this license; an expression with parentheses must be judged."""
        if self.judged.get(name) == expression:
            return True
        terms = expression.removeprefix("(").removesuffix(")").split(" AND ")
        return all(any(choice in self.allowed for choice in term.split(" OR ")) for term in terms)


def read_policy() -> Policy:
    """Read tools/licenses.toml."""
    read = tomllib.loads((ROOT / "tools/licenses.toml").read_text(encoding="utf-8"))
    judged = [(name, entry) for entry in read["judged"] for name in entry["packages"]]
    return Policy(
        frozenset(read["allowed"]),
        read["names"],
        {name: entry["license"] for name, entry in judged},
        {name: entry["reason"] for name, entry in judged},
    )


def lock_files() -> list[Path]:
    """Return every lock file of Python packages."""
    listed = subprocess.run(["git", "ls-files", "*.lock"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in listed.stdout.split()]


def locked() -> dict[str, dict[str, str]]:
    """Return each locked package with its version in each lock file, by the file's path in the repository."""
    found: dict[str, dict[str, str]] = {}
    for path in lock_files():
        pins = re.findall(r"^([a-z0-9][\w.-]*)==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        for name, version in pins:
            found.setdefault(name, {})[str(path.relative_to(ROOT))] = version
    return found


def label(lock: str) -> str:
    """Return a short name for a lock file: "server", "server-gpu", "benchmarks-peers-ray"."""
    return lock.removesuffix(".lock").replace("/requirements", "").replace("/", "-")


def installed(environment: Path, policy: Policy) -> dict[str, str]:
    """Return the license of each package in an environment."""
    packages = next((environment / "lib").glob("python3.*")) / "site-packages"
    found = distributions(path=[str(packages)])
    return {normalize(one.metadata["Name"]): policy.license_of(normalize(one.name), one.metadata.json) for one in found}


def npm_licenses() -> dict[str, str]:
    """Return the packages of the TypeScript example, as its lock file has them."""
    packages = json.loads(NPM_LOCK.read_text(encoding="utf-8"))["packages"]
    return {
        path.rpartition("node_modules/")[2]: entry.get("license", "unknown") for path, entry in packages.items() if path
    }


def page_rows(page: str) -> dict[str, str]:
    """Return each Python package of the page with its license."""
    return dict(re.findall(r"^\| (\w[\w.-]*) \| ([^|]+) \| (?!lock files)[^|]+ \|$", page, re.MULTILINE))


def page_of(licenses: Mapping[str, str]) -> str:
    """Return the page, from the license of each locked package."""
    python = "".join(
        f"| {name} | {licenses[name]} | {', '.join(map(label, files))} |\n" for name, files in sorted(locked().items())
    )
    npm = "".join(f"| {name} | {spdx} |\n" for name, spdx in sorted(npm_licenses().items()))
    return _INTRO + python + _NPM_INTRO + npm


def normalize(name: str) -> str:
    """Return a package's name as lock files write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    """Write the page; exit status 1 where a license is not allowed."""
    policy, pins = read_policy(), locked()
    licenses = page_rows(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else {}
    licenses |= policy.judged
    for environment in sorted(ROOT.glob(".venv*")):
        licenses |= installed(environment, policy)
    if new := {f"{name}=={next(iter(files.values()))}" for name, files in pins.items() if name not in licenses}:
        print(f"licenses: asking the wheels of {', '.join(sorted(new))}", flush=True)
        licenses |= _ask(new, policy)
    PAGE.write_text(page_of(licenses), encoding="utf-8")
    rejected = [name for name in pins if not policy.accepts(name, licenses[name])]
    for name in rejected:
        print(f"licenses: {name} has {licenses[name]}, which tools/licenses.toml does not allow", file=sys.stderr)
    return 1 if rejected else 0


def _ask(pins: Iterable[str], policy: Policy) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--no-deps"]
        command += ["--use-feature=fast-deps"]  # reads the metadata alone where the index can
        subprocess.run([*command, "--report", str(report), *sorted(pins)], check=True)
        return read_report(report, policy)


def read_report(report: Path, policy: Policy) -> dict[str, str]:
    """Return the licenses that a report of `pip install --dry-run --report` has."""
    found = [entry["metadata"] for entry in json.loads(report.read_text(encoding="utf-8"))["install"]]
    return {normalize(one["name"]): policy.license_of(normalize(one["name"]), one) for one in found}


def _from_metadata(metadata: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Take the expression, else the classifiers, else the first line of the text."""
    if expression := metadata.get("license_expression"):
        return str(expression)
    listed = metadata.get("classifier")
    words = [line.rpartition(" :: ")[2] for line in listed or () if line.startswith("License ::")]
    text = str(metadata.get("license") or "").split("\n")[0].strip()
    if known := sorted({names.get(word, word) for word in words if word not in {"DFSG approved", "OSI Approved"}}):
        # Several classifiers are a choice or not; only the text can say.
        return names.get(text, text) if len(known) > 1 and " OR " in text else " AND ".join(known)
    return names.get(text, text) if text and text != "UNKNOWN" else "unknown"


if __name__ == "__main__":
    sys.exit(main())
