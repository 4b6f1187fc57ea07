"""What `make release` says of its files and their dependencies: sums, bills of materials, known vulnerabilities."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from tools.audit import UNAVAILABLE, Findings
from tools.release import write_sums

from support.paths import ROOT

PROGRAMS = ROOT / ".venv-release" / "bin"


def test_sums_are_what_sha256sum_checks(tmp_path: Path) -> None:
    """SHA256SUMS covers every file below its folder; sha256sum accepts it, and not after a file has changed."""
    (tmp_path / "sbom").mkdir()
    for name in ("a.whl", "sbom/server.cdx.json"):
        (tmp_path / name).write_text(name)
    write_sums(tmp_path)
    write_sums(tmp_path)  # a second time it does not list itself
    check = ("sha256sum", "--check", "--strict", "SHA256SUMS")
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "a.whl: OK\nsbom/server.cdx.json: OK\n")
    (tmp_path / "a.whl").write_text("other")
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 1


def audited(*packages: dict[str, object]) -> Findings:
    """Return the findings of one report of pip-audit."""
    findings = Findings()
    findings.add("a.lock", json.dumps({"dependencies": packages}), "")
    return findings


KNOWN: dict[str, object] = {"id": "PYSEC-1", "fix_versions": ["2.0"]}
CLEAN: dict[str, object] = {"name": "one", "version": "1.0", "vulns": []}


def test_an_audit_that_asked_about_everything_passes() -> None:
    """Status 0 needs an answer about each package, and no known vulnerability."""
    assert audited(CLEAN).status == 0


def test_a_known_vulnerability_fails_with_the_version_that_fixes_it() -> None:
    """Status 1, also where others could not be asked about; the line has the package, the id and the fix."""
    findings = audited(CLEAN | {"vulns": [KNOWN]}, {"name": "two", "skip_reason": "not found"})
    assert findings.status == 1
    assert findings.vulnerable == {"one==1.0 (a.lock): PYSEC-1, fixed in 2.0"}


@pytest.mark.parametrize("skipped", [1, 2])
def test_what_could_not_be_asked_about_is_no_pass(skipped: int) -> None:
    """pip-audit itself ends with 0 where an index knows no vulnerabilities; here one such package is enough to fail."""
    packages: list[dict[str, object]] = [
        {"name": f"none-{i}", "skip_reason": "Dependency not found"} for i in range(skipped)
    ]
    assert audited(*packages, CLEAN).status == UNAVAILABLE


def test_a_network_error_is_no_pass() -> None:
    """Where pip-audit prints no report, its last line is the reason."""
    findings = Findings()
    findings.add("a.lock", "", "Traceback\nConnectionError: no route")
    assert (findings.status, findings.unasked) == (UNAVAILABLE, {"a.lock": "ConnectionError: no route"})


@pytest.mark.slow
def test_the_bill_of_a_lock_file_has_its_packages_and_hashes(tmp_path: Path) -> None:
    """cyclonedx-py writes each package of a lock file, with its version and its hashes."""
    if not (PROGRAMS / "cyclonedx-py").exists():
        pytest.skip("cyclonedx-py is not there: make .venv-release/ready")
    code = (
        "import sys; from pathlib import Path; from tools.sbom import write_lock; write_lock(*map(Path, sys.argv[1:]))"
    )
    lock, file = ROOT / "server/build.lock", tmp_path / "build.cdx.json"
    subprocess.run([PROGRAMS / "python", "-c", code, lock, file], cwd=ROOT, check=True)
    components = json.loads(file.read_text())["components"]
    pins = re.findall(r"^([\w.-]+)==(\S+)", lock.read_text(), re.MULTILINE)
    assert {(one["name"], one["version"]) for one in components} == set(pins)
    assert all(one["externalReferences"] for one in components)
