"""`make release`: build every distribution, check its metadata, and use all of them on every Python that is here.

Wheels and sdists are left in dist/release, with hnswlib's wheels, a bill of materials of each lock file and SHA256SUMS
beside them; nothing is signed. Other dependencies come from the registry, at the versions of the lock files.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.audit import UNAVAILABLE
from tools.release_install import ROOT, VERSIONS, build_hnswlib, pythons, run, use

OUT = ROOT / "dist" / "release"
_INSTALL = "`tools/uv.sh python install VERSION`, pyenv or the PATH can have it"
DISTRIBUTIONS = ("proto/python", "server", "clients/python", "clients/loadtest", "exporter")


def main() -> int:
    """Build, check and use them; exit status 1 where anything fails, or where there is no Python to use them on."""
    found = pythons()
    if not found:
        raise SystemExit(f"release: none of Python {', '.join(VERSIONS)} is here; {_INSTALL}")
    shutil.rmtree(OUT, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        for folder in DISTRIBUTIONS:
            print(f"release: {folder}", flush=True)
            build(ROOT / folder, Path(scratch) / "source" / folder)
        run(sys.executable, "-m", "twine", "check", "--strict", *sorted(OUT.iterdir()))
        for version, python in found.items():
            print(f"release: used on Python {version} ({python})", flush=True)
            build_hnswlib(python, OUT)
            with tempfile.TemporaryDirectory() as place:
                use(python, OUT, Path(place))
    run(sys.executable, "-m", "tools.sbom", "locks", OUT / "sbom")
    write_sums(OUT)
    for path in sorted(OUT.iterdir()):
        print(f"release: {path.relative_to(ROOT)}")
    status = audited()
    if absent := [version for version in VERSIONS if version not in found]:
        print(f"release: NOT USED on Python {', '.join(absent)}; {_INSTALL}")
    return status


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS of every file in a folder, for `sha256sum --check`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in files)
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def audited() -> int:
    """Return 1 where vulnerabilities are known, and 0 where none is, or where nobody can be asked, which is printed."""
    status = subprocess.run([sys.executable, "-m", "tools.audit"], cwd=ROOT, check=False).returncode
    if status == UNAVAILABLE:
        print("release: NOT AUDITED for known vulnerabilities; run `make audit` where they can be asked for")
        return 0
    return status


def build(folder: Path, copy: Path) -> None:
    """Build a wheel and an sdist from a copy, which has the license beside it and none of what earlier builds left."""
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__", "tests", ".*"))
    shutil.copy(ROOT / "LICENSE", copy)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", OUT, copy, quiet=True)


if __name__ == "__main__":
    sys.exit(main())
