"""`make release`: build every distribution, check its metadata, and use each wheel once in an empty environment.

Wheels and sdists are left in dist/release. Dependencies come from the registry, at the versions of the lock files.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT / "dist" / "release"
DISTRIBUTIONS = ("proto/python", "server", "clients/python", "clients/loadtest", "exporter")


def main() -> int:
    """Build, check and use them; exit status 1 where anything fails."""
    shutil.rmtree(OUT, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        for folder in DISTRIBUTIONS:
            print(f"release: {folder}", flush=True)
            build(ROOT / folder, Path(scratch) / "source" / folder)
        run(sys.executable, "-m", "twine", "check", "--strict", *sorted(OUT.iterdir()))
        use(Path(scratch))
    for path in sorted(OUT.iterdir()):
        print(f"release: {path.relative_to(ROOT)}")
    return 0


def build(folder: Path, copy: Path) -> None:
    """Build a wheel and an sdist from a copy, which has the license beside it and none of what earlier builds left."""
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__", "tests", ".*"))
    shutil.copy(ROOT / "LICENSE", copy)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", OUT, copy, quiet=True)


def use(scratch: Path) -> None:
    """Export a model, serve it, import a catalog, search it and load it, each from an environment of wheels alone."""
    model, catalog = scratch / "model", scratch / "catalog"
    exporter = install(scratch / "exporter", ROOT / "exporter/requirements.lock", "lookalike_exporter")
    run(exporter / "lookalike-exporter", "export", "--backbone", "squeezenet", "--weights", "imagenet", "--out", model)
    server = install(scratch / "server", ROOT / "server/requirements.lock", "lookalike_proto", "lookalike_server[cpu]")
    client = install(
        scratch / "client",
        ROOT / "tests/requirements.lock",
        "lookalike_proto",
        "lookalike_client[cli]",
        "lookalike_loadtest",
    )
    run(client / "python", "-m", "tools.sample_catalog", catalog)
    process = subprocess.Popen(
        [
            server / "lookalike-server",
            "serve",
            "--model",
            model,
            "--data-dir",
            scratch / "data",
            "--listen",
            "127.0.0.1:0",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lookalike = (client / "lookalike", "--server", f"127.0.0.1:{port_of(process)}")
        run(*lookalike, "import", catalog / "catalog.csv", "--limit", "40", "--category-column", "gender")
        run(*lookalike, "search", "--id", "S0001", "-k", "3")
        run(*lookalike, "load", "--rate", "5", "--duration", "2", "--warmup", "0")
    finally:
        process.terminate()
        process.wait(timeout=60)


def port_of(process: subprocess.Popen[str]) -> int:
    """Read the server's log until it names the port that it serves on."""
    for line in process.stderr or ():
        if found := re.search(r"\bserving\b.*\bport\W+(\d+)", re.sub(r"\x1b\[\d*m", "", line)):
            return int(found[1])
    raise SystemExit("release: the server ended before it served")


def install(folder: Path, lock: Path, *names: str) -> Path:
    """Install wheels of ours, with what they need at the versions of a lock file, and return the folder of programs."""
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    constraints = folder / "constraints.txt"
    # Hashes would be asked of our own wheels too.
    versions = re.findall(r"^[\w.-]+==[^\\\n]+", lock.read_text(encoding="utf-8"), re.MULTILINE)
    constraints.write_text("\n".join(versions), encoding="utf-8")
    wheels = [f"{next(OUT.glob(f'{name}-*.whl'))}{extra}" for name, extra in map(_split, names)]
    run(programs / "python", "-m", "pip", "install", "--quiet", "-c", constraints, *wheels)
    run(programs / "python", "-m", "pip", "check", quiet=True)
    return programs


def _split(name: str) -> tuple[str, str]:
    name, bracket, extra = name.partition("[")
    return name, bracket + extra


def run(*command: str | Path, quiet: bool = False) -> None:
    """Run a command in the repository's root; the first that fails ends the release, with what it printed."""
    words: Sequence[str] = [str(word) for word in command]
    # Only the wheels are to be found, not the checkout beside them.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=quiet, text=True, check=False)
    if done.returncode:
        print(done.stdout or "", done.stderr or "", sep="", end="", file=sys.stderr)
        raise SystemExit(f"release: {' '.join(words)} failed with exit status {done.returncode}")


if __name__ == "__main__":
    sys.exit(main())
