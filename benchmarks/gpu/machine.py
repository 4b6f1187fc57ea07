"""What was measured on: the GPU and its driver, the libraries, the processor, the commit."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.environment import ROOT

_GPU_FIELDS = (
    "name",
    "driver_version",
    "memory.total",
    "clocks.max.sm",
    "power.limit",
    "pcie.link.gen.max",
    "pcie.link.width.max",
)
_LIBRARIES = ("onnxruntime", "nvidia-", "tensorrt", "grpcio", "numpy", "protobuf", "uvloop", "faiss", "pillow")
_BANDWIDTH = {"H200": 4_800.0, "H100 NVL": 3_938.0, "H100 PCIe": 2_039.0, "H100 80GB HBM3": 3_352.0}
"""GB/s of a GPU's memory by a part of its name, from NVIDIA's data sheets: the driver does not say."""

_BUILD = """
import json, onnxruntime
built_for = getattr(onnxruntime, "cuda_version", "")
print(json.dumps({"providers": onnxruntime.get_available_providers(), "built_for_cuda": built_for}))
"""


def about(commit: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return everything that a reader needs to judge the results."""
    processor = [
        line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if "model name" in line
    ]
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "gpu": _gpu(),
        "cpu": processor[0].partition(":")[2].strip() if processor else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "load_average_at_start": os.getloadavg(),
        "python": sys.version.split()[0],
        "versions": _versions(),
        "onnxruntime": json.loads(_output_of([sys.executable, "-c", _BUILD]) or "{}"),
        "commit": commit or _output_of(["git", "-C", str(ROOT), "rev-parse", "HEAD"]) or "unknown",
        "settings": settings,
        "note": "server, load processes and bare session share the machine and the GPU; turns are paired",
    }


def gpu_memory_mib() -> int | None:
    """Return the memory in use on the first GPU, in MiB; None where there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    used = _output_of(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"])
    return int(used.splitlines()[0]) if used else None


def bandwidth_gb_per_s() -> float | None:
    """Return the GB/s of the GPU's memory by its data sheet; None where it is not known."""
    name = _gpu()["name"]
    return next((value for part, value in _BANDWIDTH.items() if part in name), None)


def _gpu() -> dict[str, str]:
    if shutil.which("nvidia-smi") is None:
        return {"name": "none"}
    output = _output_of(["nvidia-smi", f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader"])
    return (
        dict(zip(_GPU_FIELDS, (each.strip() for each in output.splitlines()[0].split(",")), strict=False))
        if output
        else {"name": "none"}
    )


def _versions() -> dict[str, str]:
    """Return the versions of the libraries that matter, as they are found first."""
    found: dict[str, str] = {}
    for package in metadata.distributions():
        name = (package.metadata["Name"] or "").lower()
        if name.startswith(_LIBRARIES):
            found.setdefault(name, package.version)
    return dict(sorted(found.items()))


def _output_of(command: list[str]) -> str:
    """Return what a command prints; nothing where it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
