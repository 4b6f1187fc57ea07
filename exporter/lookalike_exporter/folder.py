"""Puts a model folder in place in one step: a reader sees the old one, or the new one, never a part.

The new folder is written beside its place as `.NAME.tmp-PID`, flushed to disk and renamed. A folder that is
found under such a name later belongs to an export that was killed, and may be removed.
"""

import ctypes
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from lookalike_exporter.errors import ExportError

GRAPH_FILE, MANIFEST_FILE = "model.onnx", "model.json"

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # <fcntl.h> and <linux/fs.h>


def check_place(out: Path, *, force: bool) -> None:
    """Refuses a place that must not be written, before any long work; makes the parent folders.

    Raises:
        ExportError: Something is there already, without `force`; or, with it, something that is not a model
            folder.
        OSError: The parent cannot be made.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(out):
        return
    if not force:
        raise ExportError(f"{out} exists already; --force replaces it")
    if out.is_symlink() or not out.is_dir():
        raise ExportError(f"{out} is not a folder; not replaced")
    foreign = {entry.name for entry in out.iterdir()} - {GRAPH_FILE, MANIFEST_FILE}
    if foreign:
        raise ExportError(f"{out} holds more than a model ({min(foreign)}); not replaced")


def write_folder(out: Path, files: Mapping[str, bytes], *, force: bool) -> None:
    """Writes the files and makes the folder appear; a failure or an interrupt leaves nothing behind.

    Args:
        out: An absolute path.
        files: File name -> content.
        force: Whether a model folder that is there is replaced.

    Raises:
        ExportError: As `check_place`.
        OSError: The disk refuses; the place is as it was.
    """
    check_place(out, force=force)
    temporary = out.with_name(f".{out.name}.tmp-{os.getpid()}")
    try:
        temporary.mkdir()
        for name, content in files.items():
            with (temporary / name).open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _flush_folder(temporary)
        if force and out.is_dir():
            _swap(temporary, out)
        else:
            temporary.rename(out)
        _flush_folder(out.parent)
    finally:
        # After a swap this is the old folder.
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, old: Path) -> None:
    """Exchanges two folders' names: in one step where the system can, else by renames with a gap."""
    if _exchange(new, old):
        return
    aside = old.with_name(f".{old.name}.old-{os.getpid()}")
    old.rename(aside)
    try:
        new.rename(old)
    except BaseException:
        aside.rename(old)
        raise
    aside.rename(new)


def _exchange(new: Path, old: Path) -> bool:
    """Whether Linux' `renameat2` exchanged them; other systems and some file systems lack it."""
    if sys.platform != "linux":
        return False
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    done: int = call(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE)
    return done == 0


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
