"""The disk under the catalog: whether it can be written, what it is, how much is free, how long a sync takes."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lookalike_server.doctor.finding import Fact, Finding, error, ok, skipped, warning
from lookalike_server.doctor.processor import ROOT

LEAST_FREE = 64 << 20
"""Bytes without which writes fail soon: the write-ahead log between two checkpoints, and an index file."""

MUCH_FREE = 1 << 30
"""Free bytes below which a catalog of any size has little room to grow."""

SLOW_SYNC_SECONDS = 0.020
"""A sync that takes longer holds up every write; a disk of its own in a cloud takes 1 to 5 ms."""

_NETWORK = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "gpfs", "virtiofs")
)
_MEMORY = frozenset(("tmpfs", "ramfs"))
_SYNCS = 20
_SYNC_SECONDS = 2.0  # for all of them
_MIB = 1 << 20
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def existing(folder: Path) -> Path:
    """Return the folder, or where it would be made: the nearest one above it that exists."""
    absolute = folder.absolute()
    return next(each for each in (absolute, *absolute.parents) if each.exists())


def check_data_dir(folder: Path, owner: int | None, *, is_ours: bool) -> Finding:
    """Check that a server can write the catalog's folder, and that nobody else does.

    Args:
        folder: Of the catalog; it need not exist.
        owner: The process that has locked it; None if there is none.
        is_ours: Whether that is the server that these settings describe.
    """
    there = existing(folder)
    facts: dict[str, Fact] = {"folder": str(folder), "exists": folder.exists(), "locked_by": owner}
    if not there.is_dir():
        return error("data_dir", f"{there} is not a folder", "choose another --data-dir", **facts)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as problem:
        return error(
            "data_dir",
            f"{there} cannot be written: {problem.strerror}",
            f"run as its owner (this is user {os.geteuid()}), or choose another --data-dir",
            **facts,
        )
    if owner is not None and not is_ours:
        return error("data_dir", f"process {owner} uses {folder}", "stop it, or choose another --data-dir", **facts)
    if there != folder.absolute():
        return ok("data_dir", f"{folder} will be made", **facts)
    if folder.stat().st_mode & _OTHERS:
        mode = stat.S_IMODE(folder.stat().st_mode)
        return warning("data_dir", f"others can look into {folder} (mode {mode:04o})", f"chmod 700 {folder}", **facts)
    return ok("data_dir", f"{folder} can be written{' by the server that runs' if is_ours else ''}", **facts)


def lock_owner(folder: Path, files: Path = ROOT) -> int | None:
    """Return the process that has locked the catalog's folder; None where none has, or that cannot be seen.

    It is read from the kernel's list of locks, because trying the lock could be in the way of a server that starts.
    """
    try:
        status = (folder / "lock").stat()
        lines = (files / "proc/locks").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in lines:
        fields = line.split()
        if "FLOCK" in fields and "->" not in fields and device in fields:
            return int(fields[fields.index(device) - 1])
    return None


def check_file_system(folder: Path, files: Path = ROOT) -> Finding:
    """Check that the file system is a local one that outlives a restart; see docs/catalog.md, Storage.

    Args:
        folder: Of the catalog; it need not exist.
        files: Where /proc is.
    """
    there = existing(folder)
    found = mount_of(there, files)
    if found is None:
        return skipped("file_system", f"the file system of {there} is not known")
    kind, options = found
    facts = {"type": kind}
    if "ro" in options:
        return error("file_system", f"{there} is on a {kind} that is mounted read-only", "mount it writable", **facts)
    if kind in _NETWORK or (kind.startswith("fuse.") and kind != "fuse.fuse-overlayfs"):
        return warning(
            "file_system",
            f"{there} is on {kind}: over a network, locks and syncs may not hold, and writes may be lost",
            "use a local file system (ext4, XFS, a block volume); backups may go there",
            **facts,
        )
    if kind in _MEMORY:
        return warning(
            "file_system", f"{there} is on {kind}, in memory: a restart of the machine loses it", "use a disk", **facts
        )
    if kind in ("overlay", "fuse.fuse-overlayfs"):
        return warning(
            "file_system",
            f"{there} is in the container's own layer, which is gone with the container",
            "mount a volume there",
            **facts,
        )
    return ok("file_system", f"{there} is on {kind}", **facts)


def mount_of(folder: Path, files: Path = ROOT) -> tuple[str, Sequence[str]] | None:
    """Return the type and the options of the file system of a folder that exists; None where Linux does not say."""
    try:
        lines = (files / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    target = str(folder.resolve())
    longest, best = -1, None
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        point = fields[4]
        if "\\" in point:  # a space is \040
            point = point.encode().decode("unicode_escape")
        # Later lines are mounted over earlier ones.
        if len(point) >= longest and (target == point or target.startswith(f"{point.rstrip('/')}/")):
            longest, best = len(point), (after.split(" ", 1)[0], fields[5].split(","))
    return best


def check_disk_space(folder: Path, catalog_bytes: int) -> Finding:
    """Check that there is room for writes, and for a second copy of the catalog.

    Args:
        folder: Of the catalog; it need not exist.
        catalog_bytes: What the catalog has by now.
    """
    there = existing(folder)
    status = os.statvfs(there)
    free = status.f_bavail * status.f_frsize
    facts = {"free_bytes": free, "catalog_bytes": catalog_bytes}
    if status.f_files and not status.f_favail:
        return error("disk_space", f"{there} has no free inode", "delete files, or use another disk", **facts)
    if free < LEAST_FREE:
        return error(
            "disk_space",
            f"{free // _MIB:,} MiB are free at {there}, and writes fail without {LEAST_FREE // _MIB}",
            "make room, or use another disk",
            **facts,
        )
    if free < max(MUCH_FREE, catalog_bytes):
        return warning(
            "disk_space",
            f"{free // _MIB:,} MiB are free at {there}, the catalog has {catalog_bytes // _MIB:,} MiB",
            "make room: reembed and backup need as much again, and a catalog three times its vectors (docs/sizing.md)",
            **facts,
        )
    return ok("disk_space", f"{free // _MIB:,} MiB are free at {there}", **facts)


def catalog_size(folder: Path) -> int:
    """Return the bytes of the catalog's files, by their sizes."""
    size = 0
    for path in (*folder.glob("catalog.sqlite*"), *folder.glob("index/*")):
        try:
            size += path.stat().st_size
        except FileNotFoundError:  # a server replaces files of the index
            continue
    return size


def check_disk_sync(folder: Path, measure: Callable[[Path], Sequence[float]]) -> Finding:
    """Check how long a sync takes, because every write waits for one.

    Args:
        folder: Of the catalog; it need not exist.
        measure: Returns the seconds of several syncs in a folder.
    """
    there = existing(folder)
    try:
        seconds = measure(there)
    except OSError as problem:
        return error("disk_sync", f"a file at {there} cannot be synced: {problem.strerror}", "see data_dir")
    median, most = sorted(seconds)[len(seconds) // 2], max(seconds)
    facts = {"median_seconds": round(median, 6), "max_seconds": round(most, 6)}
    measured = f"a sync at {there} takes {1e3 * median:.2f} ms ({1e3 * most:.2f} ms at most)"
    if median > SLOW_SYNC_SECONDS:
        return warning(
            "disk_sync",
            f"{measured}, and every write waits for at least one",
            "use a faster disk; many products in one UpsertProducts or an import share a sync",
            **facts,
        )
    return ok("disk_sync", measured, **facts)


def sync_seconds(folder: Path) -> list[float]:
    """Measure writing and syncing 4 KiB several times, in a file of its own, for about two seconds at most.

    Raises:
        OSError: The folder cannot be written, or the disk fails.
    """
    seconds: list[float] = []
    with tempfile.NamedTemporaryFile(prefix=".lookalike-doctor-", dir=folder) as file:
        block = os.urandom(4096)
        while len(seconds) < _SYNCS and sum(seconds) < _SYNC_SECONDS:
            began = time.perf_counter()
            os.write(file.fileno(), block)
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - began)
    return seconds
