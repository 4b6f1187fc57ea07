"""`python -m benchmarks.gpu.parcel --models DIR --out DIR`: two parcels for a machine with a GPU and no network.

parcel-1 has ONNX Runtime for one GPU architecture and the models, parcel-2 the other wheels and the sources.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.environment import ROOT
from benchmarks.gpu.parcel.rounded_weights import write_rounded
from benchmarks.gpu.parcel.thin_runtime import unpack_thin
from benchmarks.gpu.parcel.wheels import RUNTIME, carried, download, version_of

MAX_MIB = 55.0
"""The most that a parcel may take: what carries it takes 64 MiB, of which the sources are 8."""

SOURCES = ("Makefile", "VERSION", "benchmarks", "server", "proto", "clients/python", "clients/loadtest", "tools")

UNPACK = "mkdir -p /tmp/lookalike && tar xf {} -C /tmp/lookalike"
RUN = (
    'cd /tmp/lookalike && make bench-gpu PYTHON=python3 MODELS=models WHEELS=wheels RUNTIME=runtime BENCH="--commit {}"'
)


def main() -> None:
    """Read the command line and make the parcels."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.parcel", description=__doc__)
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="model folders")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the parcels")
    parser.add_argument("--architecture", type=int, default=90, help="of the GPU: 90 is an H100")
    parser.add_argument("--python", default="3.12", help="the version of Python there")
    options = parser.parse_args()
    commit = _git("rev-parse", "HEAD").decode().strip()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        first, second = Path(scratch, "first"), Path(scratch, "second")
        _log(f"{RUNTIME} {version_of(RUNTIME)}")
        download([f"{RUNTIME}=={version_of(RUNTIME)}"], Path(scratch), options.python)
        (wheel,) = Path(scratch).glob("*.whl")
        thinned = unpack_thin(wheel, first / "runtime", options.architecture)
        models = {}
        for model in options.models:
            _log(str(model))
            out = first / "models" / model.name
            described = json.loads((model / "model.json").read_text(encoding="utf-8"))
            if described["weights"].startswith("random"):
                write_rounded(model, out)
            else:
                shutil.copytree(model, out)
            models[model.name] = json.loads((out / "model.json").read_text(encoding="utf-8"))["weights"]
        _log(f"{len(carried())} wheels")
        (second / "wheels").mkdir(parents=True)
        download(carried(), second / "wheels", options.python)
        subprocess.run(["tar", "x", "-C", second], input=_git("archive", "HEAD", *SOURCES), check=True)
        about = {
            "commit": commit,
            "architecture": f"sm_{options.architecture}",
            "python": options.python,
            "runtime": f"{RUNTIME} {version_of(RUNTIME)}, thinned",
            "machine_code_bytes": asdict(thinned),
            "models": models,
            "wheels": sorted(path.name for path in (second / "wheels").iterdir()),
        }
        (second / "parcel.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        paths = [options.out / f"parcel-{at}.tar.xz" for at in (1, 2)]
        sizes = [_pack(folder, path) for folder, path in zip((first, second), paths, strict=True)]
    for line in (*map(UNPACK.format, paths), RUN.format(commit[:12])):
        _log(line)
    if max(sizes) > MAX_MIB:
        sys.exit(f"a parcel has more than {MAX_MIB:.0f} MiB; leave out a model")


def _pack(folder: Path, path: Path) -> float:
    """Write a folder's contents as an archive, and return its size in MiB."""
    packed = ["tar", "c", "--sort=name", "--owner=0", "--group=0", "-C", str(folder), "."]
    with path.open("wb") as file, subprocess.Popen(packed, stdout=subprocess.PIPE) as tar:
        subprocess.run(["xz", "-T1", "--x86", "--lzma2=preset=6,dict=64MiB"], stdin=tar.stdout, stdout=file, check=True)
    if tar.returncode:
        raise subprocess.CalledProcessError(tar.returncode, packed)
    size = path.stat().st_size / 2**20
    _log(f"{path}: {size:.1f} MiB")
    return size


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=True).stdout


def _log(text: str) -> None:
    print(f"parcel: {text}", flush=True)


if __name__ == "__main__":
    main()
