"""Install what `make release` built into empty environments, and run the commands of docs/installing.md in them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "installing.md"
VERSIONS = ("3.11", "3.12", "3.13")
"""The versions of Python that all distributions are for."""

SERVER_AND_CLIENT = ("lookalike-server[cpu]", "lookalike-client[cli]", "lookalike-loadtest")
_LOCKS = ("server/requirements.lock", "tests/requirements.lock")
_START_SECONDS = 300


def pythons() -> dict[str, str]:
    """Find an interpreter of each version: the running one, in the PATH, pyenv's or uv's; those not here are absent."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or data / "uv" / "python")
    found = {}
    for version in VERSIONS:
        candidates = [
            sys.executable,
            shutil.which(f"python{version}"),
            *pyenv.glob(f"versions/{version}.*/bin/python"),
            *uv.glob(f"cpython-{version}.*/bin/python{version}"),
        ]
        if fitting := [str(each) for each in candidates if each and _version_of(str(each)) == version]:
            found[version] = fitting[0]
    return found


def _version_of(python: str) -> str:
    # pyenv's own programs of this name fail where the version is not chosen.
    code = "import sys, ensurepip, ssl; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def build_hnswlib(python: str, folder: Path) -> None:
    """Compile hnswlib's wheel for one Python into a folder, so that nobody needs a compiler who installs from it."""
    run("make", "--no-print-directory", "hnswlib-wheel", f"PYTHON={python}", f"WHEELS={folder}")


def use(python: str, built: Path, scratch: Path) -> None:
    """Install everything on one Python, and run the commands of the docs as a user would who has no checkout.

    Args:
        python: The interpreter.
        built: The folder with wheels and source distributions.
        scratch: An empty folder for environments and files.
    """
    sources = sorted(built.glob("lookalike_*.tar.gz"))
    empty = environment(python, scratch / "sources")
    run(empty / "pip", "install", "--quiet", "--no-deps", *sources)
    served = install(python, scratch / "lookalike", built, _LOCKS, *SERVER_AND_CLIENT)
    exporter = install(python, scratch / "exporter", built, ("exporter/requirements.lock",), "lookalike-exporter")
    place = scratch / "place"
    write_catalog(place)
    run_page(place, (served, exporter))
    with serving(served, place) as variables:
        load = ("load", "--rate", "5", "--duration", "2", "--warmup", "0")
        run(served / "lookalike", *load, cwd=place, variables=variables)


def environment(python: str, folder: Path) -> Path:
    """Create an empty environment and return the folder of its programs."""
    run(python, "-m", "venv", folder)
    return folder / "bin"


def install(python: str, folder: Path, built: Path, locks: tuple[str, ...], *names: str) -> Path:
    """Install distributions of ours by name into an empty environment, and return the folder of its programs."""
    programs = environment(python, folder)
    constraints = folder / "constraints.txt"
    # Hashes would be asked of our own wheels too.
    lines = [line for lock in locks for line in (ROOT / lock).read_text(encoding="utf-8").splitlines()]
    found = dict.fromkeys(each[0].rstrip() for line in lines if (each := re.match(r"[\w.-]+==[^\\]+", line)))
    constraints.write_text("\n".join(found), encoding="utf-8")
    # Nor may a stranger's distribution of our name be taken from the registry: ours have this very version.
    version = (ROOT / "VERSION").read_text(encoding="utf-8").strip()
    pinned = [f"{name}=={version}" for name in names]
    run(programs / "pip", "install", "--quiet", "--find-links", built, "-c", constraints, *pinned)
    run(programs / "pip", "check", quiet=True)
    return programs


def write_catalog(place: Path) -> None:
    """Write what the commands of the docs name: a catalog.csv with its images, and shoe.jpg."""
    draw = ("-m", "tools.sample_catalog", place)
    run(ROOT / ".venv" / "bin" / "python", *draw, variables={"PYTHONPATH": str(ROOT)})
    lines = (place / "catalog.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (place / "catalog.csv").write_text("".join(lines[:41]), encoding="utf-8")
    shutil.copy(next((place / "images").glob("*.jpg")), place / "shoe.jpg")


def page_commands(page: Path = PAGE) -> list[list[str]]:
    """Return the commands of ours in the page's fenced blocks, in their order."""
    text = "".join(re.findall(r"^```\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))
    lines = [shlex.split(line) for line in text.splitlines() if line.startswith("lookalike")]
    return [words for words in lines if "/" not in words[0] and "--install-completion" not in words]


def run_page(place: Path, environments: tuple[Path, ...]) -> None:
    """Run the page's commands in a folder; the server in the background from where the page starts it."""
    for words in page_commands():
        program = next(each / words[0] for each in environments if (each / words[0]).exists())
        if words[1] == "serve":
            break
        run(program, *words[1:], cwd=place)
    with serving(environments[0], place) as variables:
        for words in page_commands():
            if words[0] == "lookalike":
                run(environments[0] / "lookalike", *words[1:], cwd=place, variables=variables)


@contextmanager
def serving(programs: Path, place: Path) -> Iterator[Mapping[str, str]]:
    """Run the page's server, on any free port, and yield the variables with which `lookalike` finds it."""
    (words,) = [words for words in page_commands() if words[1] == "serve"]
    process = subprocess.Popen(
        [programs / words[0], *words[1:]],
        cwd=place,
        env=clean_environment() | {"LOOKALIKE_LISTEN": "127.0.0.1:0", "LOOKALIKE_LOG_FORMAT": "json"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        port = next((line for line in process.stderr or () if '"event": "serving"' in line), "")
        found = re.search(r'"port": (\d+)', port)
        if not found:
            raise SystemExit("release: the server ended before it served")
        yield {"LOOKALIKE_CLIENT_SERVER": f"127.0.0.1:{found[1]}"}
    finally:
        process.terminate()
        process.wait(timeout=_START_SECONDS)


def clean_environment() -> dict[str, str]:
    """Return the environment without what would show the checkout to an installed program."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "LOOKALIKE_"))}


def run(
    *command: str | Path, quiet: bool = False, cwd: Path = ROOT, variables: Mapping[str, str] | None = None
) -> None:
    """Run a command; the first that fails ends the release, with what it printed."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, env=clean_environment() | dict(variables or {}), capture_output=quiet, text=True, check=False
    )
    if done.returncode:
        print(done.stdout or "", done.stderr or "", sep="", end="", file=sys.stderr)
        raise SystemExit(f"release: {' '.join(words)} failed with exit status {done.returncode}")
