"""What was measured on: the card and its driver, the libraries, the processor, the commit."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.environment import ROOT

_CARD = (
    "name",
    "driver_version",
    "memory.total",
    "clocks.max.sm",
    "power.limit",
    "pcie.link.gen.max",
    "pcie.link.width.max",
)
_LIBRARIES = ("onnxruntime", "nvidia-", "tensorrt", "grpcio", "numpy", "protobuf", "uvloop", "hnswlib", "pillow")
_BUILD = """
import json, onnxruntime
built_for = getattr(onnxruntime, "cuda_version", "")
print(json.dumps({"providers": onnxruntime.get_available_providers(), "built_for_cuda": built_for}))
"""


def about(commit: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Everything that a reader needs to judge the figures by."""
    processor = [
        line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if "model name" in line
    ]
    return {
        "card": _card(),
        "cpu": processor[0].partition(":")[2].strip() if processor else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "load_average_at_start": os.getloadavg(),
        "python": sys.version.split()[0],
        "versions": _versions(),
        "onnxruntime": json.loads(_told([sys.executable, "-c", _BUILD]) or "{}"),
        "commit": commit or _told(["git", "-C", str(ROOT), "rev-parse", "HEAD"]) or "unknown",
        "settings": settings,
        "note": "server, load generators and bare session share the machine and the card; turns are paired",
    }


def _card() -> dict[str, str]:
    if shutil.which("nvidia-smi") is None:
        return {"name": "none"}
    told = _told(["nvidia-smi", f"--query-gpu={','.join(_CARD)}", "--format=csv,noheader"])
    return (
        dict(zip(_CARD, (each.strip() for each in told.splitlines()[0].split(",")), strict=False))
        if told
        else {"name": "none"}
    )


def _versions() -> dict[str, str]:
    """Of the libraries that matter, as they are found first."""
    found: dict[str, str] = {}
    for package in metadata.distributions():
        name = (package.metadata["Name"] or "").lower()
        if name.startswith(_LIBRARIES):
            found.setdefault(name, package.version)
    return dict(sorted(found.items()))


def _told(command: list[str]) -> str:
    """What a command prints; nothing where it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
