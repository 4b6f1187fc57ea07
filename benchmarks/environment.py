"""What a measurement was made on: processor, versions, commit, settings. Without it no result can be judged."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("grpcio", "numpy", "onnxruntime", "openvino", "pillow", "protobuf", "uvloop")
_KINDS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16", "avx512f": "AVX-512", "avx2": "AVX2"}


@dataclass(frozen=True, slots=True)
class Model:
    """What the benchmark needs to know of a model folder."""

    folder: Path
    name: str
    weights: str
    precision: str
    digest: str
    graph: Path
    input_name: str
    height: int
    width: int
    resize: str
    dim: int


def read_model(folder: Path) -> Model:
    """Read a model folder's manifest; the server checks it in full."""
    manifest = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    return Model(
        folder=folder.resolve(),
        name=manifest["name"],
        weights=manifest["weights"],
        precision=manifest["precision"],
        digest=manifest["graph"]["sha256"],
        graph=(folder / manifest["graph"]["file"]).resolve(),
        input_name=manifest["graph"]["input"],
        height=manifest["input"]["height"],
        width=manifest["input"]["width"],
        resize=manifest["input"]["resize"],
        dim=manifest["output"]["dim"],
    )


@cache
def threads() -> int:
    """Return the cores that this process may use: every server is given as many threads."""
    return len(os.sched_getaffinity(0))


@cache
def processor_kind() -> str:
    """Return the best of what the processor has for a network: AMX, AVX-512 BF16, AVX-512, AVX2, or other."""
    flags = _cpuinfo().get("flags", "").split()
    return next((kind for flag, kind in _KINDS.items() if flag in flags), "other")


def computes_bf16() -> bool:
    """Whether the processor multiplies in bfloat16, which the bounds over the peers' defaults suppose."""
    return processor_kind() in {"AMX", "AVX-512 BF16"}


def describe(model: Model, settings: dict[str, Any]) -> dict[str, Any]:
    """Return everything that a reader needs to repeat the measurement."""
    return {
        "cpu": _cpu(),
        "cores": threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "load_average_at_start": os.getloadavg(),
        "python": sys.version.split()[0],
        "versions": {name: _version(name) for name in _PACKAGES},
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "model": {"name": model.name, "precision": model.precision, "digest": model.digest},
        "settings": settings,
        "note": "servers and load generators share all cores; only ratios of adjacent turns mean anything",
    }


def _cpu() -> dict[str, Any]:
    fields = _cpuinfo()
    extensions = [flag for flag in fields.get("flags", "").split() if flag.startswith(("avx", "amx"))]
    model = fields.get("model name", platform.processor())
    return {"model": model, "kind": processor_kind(), "vector_extensions": extensions}


@cache
def _cpuinfo() -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    return fields


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
