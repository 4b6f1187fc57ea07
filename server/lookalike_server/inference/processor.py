"""The processor that this process may use: its kind, and how much of it."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path

_FILES = Path("/")
_CORE_BYTES = 16 << 10  # more than /proc/cpuinfo has about one core


def available_cores(files: Path = _FILES) -> int:
    """Count the cores that this process may use: by its affinity and its control group's quota, at least one.

    Args:
        files: Where /proc and /sys are.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *(math.ceil(quota) for quota in cpu_quotas(files))]))


def processor(files: Path = _FILES) -> str:
    """Name the processor and the instruction sets that change which runtime is the fastest."""
    facts = _cpuinfo(files)
    flags = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in _flags(facts)]
    return " ".join([facts.get("model name", platform.machine()), *flags])


def has_avx2(files: Path = _FILES) -> bool:
    """Whether the processor has AVX2; True where the system does not say."""
    flags = _flags(_cpuinfo(files))
    return not flags or "avx2" in flags


def _flags(facts: dict[str, str]) -> list[str]:
    return facts.get("flags", "").split()


def _cpuinfo(files: Path) -> dict[str, str]:
    """Read what Linux says of the first core; nothing elsewhere."""
    try:
        with (files / "proc/cpuinfo").open("rb", buffering=0) as file:
            # The kernel makes up the text as it is read, which takes long for hundreds of cores.
            first = (file.read(_CORE_BYTES) or b"").decode("utf-8", "replace").partition("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def cpu_quotas(files: Path = _FILES) -> Iterator[float]:
    """Read the quotas, in cores, of our control group and those around it (cgroup v1 and v2).

    Args:
        files: Where /proc and /sys are.
    """
    try:
        lines = (files / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = files / "sys/fs/cgroup" / controllers
        group = root / path.lstrip("/")
        # In a container its own group is the root, whatever path the host knows it by.
        for folder in (group, *group.parents):
            if folder.is_relative_to(root) and (quota := _quota(folder)) is not None:
                yield quota


def _quota(folder: Path) -> float | None:
    """Read the quota of one group, in cores; None where it has none."""
    try:
        if (folder / "cpu.max").exists():
            limit, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            limit = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8").strip()
        return int(limit) / int(period) if limit not in ("max", "-1") else None
    except (OSError, ValueError):
        return None
