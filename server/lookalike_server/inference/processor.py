"""The processor that this process may use: its kind, and how much of it."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from lookalike_server.control_groups import group_folders, read_text

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


def instruction_sets(files: Path = _FILES) -> frozenset[str]:
    """Return the processor's instruction sets by Linux' names; none where the system does not say."""
    return frozenset(_flags(_cpuinfo(files)))


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
    for folder, is_old in group_folders(files, "cpu"):
        if is_old:
            limit, period = read_text(f"{folder}/cpu.cfs_quota_us"), read_text(f"{folder}/cpu.cfs_period_us")
        else:
            limit, _, period = (read_text(f"{folder}/cpu.max") or "").partition(" ")
        try:
            quota = int(limit or "") / int(period or "")
        except ValueError:  # "max", or no file
            continue
        if quota > 0:
            yield quota
