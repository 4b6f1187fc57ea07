"""Runs `buf generate` for the languages whose tools are installed, or checks whether their stubs are up to date.

    python generate.py [--check] [LANGUAGE...]

`cd proto && buf generate` generates them all, and needs every language's tools.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

HERE = Path(__file__).parent
CLIENTS = HERE.parent / "clients"


@dataclass(frozen=True)
class Language:
    """Where a language's stubs go.

    Attributes:
        out: The output folder in buf.gen.yaml.
        stubs: The stubs' folder below that.
        kept: The same folder in the repository.
        kinds: The stubs' file names.
        tool: The program that generates them.
    """

    out: str
    stubs: str
    kept: str
    kinds: tuple[str, ...]
    tool: str | Path


LANGUAGES = {
    "python": Language("python", "lookalike", "python/lookalike", ("*_pb2*.py", "*_pb2*.pyi"), sys.executable),
    "go": Language("../clients/go", "gen", "../clients/go/gen", ("*.go",), "go"),
    "typescript": Language(
        out="../clients/typescript/src/gen",
        stubs=".",
        kept="../clients/typescript/src/gen",
        kinds=("*.ts",),
        tool=CLIENTS / "typescript/node_modules/.bin/protoc-gen-ts_proto",
    ),
    # not committed: Maven generates its own at every build, the same as buf
    "java": Language(
        out="../clients/java/target/buf-generated",
        stubs=".",
        kept="../clients/java/target/generated-sources/protobuf",
        kinds=("*.java",),
        tool=CLIENTS / "java/target/protoc/protoc-gen-grpc-java",
    ),
}


def main() -> int:
    """Generate or check; return 1 where a stub is stale, else buf's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 where stubs are stale")
    parser.add_argument("languages", metavar="LANGUAGE", nargs="*", help=f"{', '.join(LANGUAGES)}; all without one")
    options = parser.parse_args()
    if unknown := set(options.languages) - LANGUAGES.keys():
        parser.error(f"no language {' or '.join(sorted(unknown))}; there are {', '.join(LANGUAGES)}")
    names = [name for name in options.languages or LANGUAGES if _has_tool(name)]
    with tempfile.TemporaryDirectory() as scratch:
        if status := _generate({name: f"{scratch}/{name}" for name in names}):
            return status
        stale = [pair for name in names for pair in _stale(name, Path(scratch, name, LANGUAGES[name].stubs))]
        for kept, fresh in stale:
            if options.check:
                print(f"stale: {os.path.relpath(kept, HERE.parent)}; run make proto", file=sys.stderr)
            elif fresh.exists():
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(fresh, kept)
            else:
                kept.unlink()
    return 1 if options.check and stale else 0


def _has_tool(name: str) -> bool:
    if shutil.which(LANGUAGES[name].tool):
        return True
    print(f"proto: the stubs of {name} are not generated: {Path(LANGUAGES[name].tool).name} is not installed")
    return False


def _generate(places: dict[str, str]) -> int:
    template = yaml.safe_load((HERE / "buf.gen.yaml").read_text(encoding="utf-8"))
    outs = {LANGUAGES[name].out: place for name, place in places.items()}
    template["plugins"] = [
        plugin | {"out": outs[plugin["out"]]} for plugin in template["plugins"] if plugin["out"] in outs
    ]
    # buf and the Python plugins are in the environment of the interpreter that runs this
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    # what a plugin prints is shown only when it fails: Go, for one, reports every module it downloads
    done = subprocess.run(
        ["buf", "generate", "--template", json.dumps(template)],
        cwd=HERE,
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout, end="", file=sys.stderr)
    return done.returncode


def _stale(name: str, fresh: Path) -> list[tuple[Path, Path]]:
    """Return pairs of kept and fresh stubs, where one is missing or they differ."""
    kept = HERE / LANGUAGES[name].kept
    stubs = {
        file.relative_to(folder)
        for folder in (kept, fresh)
        for kind in LANGUAGES[name].kinds
        for file in folder.rglob(kind)
    }
    return [(kept / stub, fresh / stub) for stub in sorted(stubs) if _bytes(kept / stub) != _bytes(fresh / stub)]


def _bytes(file: Path) -> bytes | None:
    return file.read_bytes() if file.exists() else None


if __name__ == "__main__":
    sys.exit(main())
