"""The limits of this process: open files, memory and threads, by its own limits and its control group's."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

from lookalike_server.control_groups import group_folders, read_text
from lookalike_server.doctor.finding import Finding, error, ok, warning
from lookalike_server.doctor.processor import ROOT

OWN_FILES = 256
"""Open files of a process besides its connections: libraries, event loops, three of the catalog for each thread."""

LEAST_FILES = 64
"""Without which a process hardly starts; one with two cores and no caller has 30."""

_MIB = 1 << 20
_UNLIMITED_BYTES = 1 << 60  # of cgroup v1, which writes a number near 2**63


def check_open_files(soft: int, hard: int, max_connections: int) -> Finding:
    """Check that there are enough open files for the connections.

    Args:
        soft: The limit; negative without one.
        hard: As far as it can be raised; negative without one.
        max_connections: The setting.
    """
    needed = max_connections + OWN_FILES
    facts = {"limit": soft, "needed": needed}
    if soft < 0 or soft >= needed:
        return ok("open_files", f"{'no limit' if soft < 0 else f'at most {soft:,}'}, {needed:,} are needed", **facts)
    raised = f"ulimit -n {needed}, or LimitNOFILE={needed} of systemd, or --ulimit nofile={needed} of a container"
    if 0 <= hard < needed:
        raised += f" (the hard limit is {hard:,}: only root can raise it)"
    if soft < LEAST_FILES:
        return error(
            "open_files", f"at most {soft:,} open files; the server alone needs {LEAST_FILES}", raised, **facts
        )
    return warning(
        "open_files",
        f"at most {soft:,} open files: --max-connections {max_connections} needs {needed:,}, and connections beyond"
        f" {max(0, soft - OWN_FILES):,} may fail",
        f"{raised}; or lower --max-connections",
        **facts,
    )


def check_memory(limit: int | None, needed: int, least: int) -> Finding:
    """Check that the memory suffices for what the settings allow.

    Args:
        limit: Bytes that this process may use; None where that is not known.
        needed: Bytes that it may need with these settings and this catalog.
        least: Bytes of `needed` that it needs without any call.
    """
    facts = {"limit_bytes": limit, "needed_bytes": needed, "idle_bytes": least}
    if limit is None:
        return ok("memory", f"up to {needed // _MIB:,} MiB may be needed; the limit is not known", **facts)
    remedy = "give it more memory; docs/sizing.md has what each setting and product takes"
    if limit < least:
        return error(
            "memory",
            f"{limit // _MIB:,} MiB, and the server needs {least // _MIB:,} MiB without any call",
            remedy,
            **facts,
        )
    if limit < needed:
        return warning(
            "memory",
            f"{limit // _MIB:,} MiB, and up to {needed // _MIB:,} MiB are needed under load: the kernel may kill the"
            " server",
            f"{remedy}; or lower max_inflight_message_bytes, max_decoding_bytes or the caches",
            **facts,
        )
    return ok("memory", f"{limit // _MIB:,} MiB, up to {needed // _MIB:,} MiB may be needed", **facts)


def check_threads(limit: int | None, needed: int) -> Finding:
    """Check that as many threads may be started as there will be.

    Args:
        limit: How many more may be started; None without a limit.
        needed: How many will be.
    """
    facts = {"limit": limit, "needed": needed}
    if limit is None or limit >= needed:
        room = "no limit" if limit is None else f"{limit:,} more may be started"
        return ok("threads", f"{room}, about {needed} are needed", **facts)
    return error(
        "threads",
        f"{limit:,} more threads may be started, and about {needed} are needed",
        "raise ulimit -u, TasksMax= of systemd, or the pids limit of the container",
        **facts,
    )


def open_files() -> tuple[int, int]:
    """Return the soft and the hard limit; -1 without one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (-1 if soft == resource.RLIM_INFINITY else soft), (-1 if hard == resource.RLIM_INFINITY else hard)


def memory_limit(files: Path = ROOT) -> int | None:
    """Return the bytes of memory that this process may use: the machine's, or its control group's limit if lower."""
    limits = list(_group_values(files, "memory.max", "memory", "memory.limit_in_bytes"))
    try:
        lines = (files / "proc/meminfo").read_text(encoding="utf-8").splitlines()
        total = next(line for line in lines if line.startswith("MemTotal:"))
        limits.append(int(total.split()[1]) * 1024)
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    return min((limit for limit in limits if limit < _UNLIMITED_BYTES), default=None)


def thread_limit(files: Path = ROOT, *, own: int | None = None) -> int | None:
    """Return how many more threads may be started; None without a limit.

    Args:
        files: Where /proc and /sys are.
        own: The limit of the user's processes; that of this process by default.
    """
    if own is None:
        own, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    limits = [own] if own != resource.RLIM_INFINITY and own >= 0 else []
    limits += _group_values(files, "pids.max", "pids", "pids.max")
    return min(limits, default=None)


def _group_values(files: Path, name: str, controller: str, old_name: str) -> Iterator[int]:
    """Read a limit of our control group and those around it."""
    for folder, is_old in group_folders(files, controller):
        try:
            yield int(read_text(f"{folder}/{old_name if is_old else name}") or "")
        except ValueError:  # "max", or no file
            continue
