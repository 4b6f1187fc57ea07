"""Read a model folder, and write one in one step: a reader sees the old one, or the new one, never a part.

The new folder is written beside its place as `.NAME.tmp-PID`, flushed to disk and renamed. A folder that
remains under such a name belongs to an export that was killed, and may be removed.
"""

import ctypes
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookalike_exporter.errors import ExportError
from lookalike_exporter.output.schema import upgrade

GRAPH_FILE, MANIFEST_FILE = "model.onnx", "model.json"

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # <fcntl.h> and <linux/fs.h>


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model folder: its graph, and the parts of `model.json` that say how it was made."""

    graph: bytes
    digest: str
    precision: str
    arguments: tuple[str, ...]


def read_folder(folder: Path) -> ModelFolder:
    """Read a model folder that this exporter wrote, of any schema version.

    Raises:
        ExportError: It is not one, its graph is not the one described, or it does not say how it was made.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest: dict[str, Any] = upgrade(json.loads(path.read_text(encoding="utf-8")))
        graph = (folder / manifest["graph"]["file"]).read_bytes()
        digest, precision = str(manifest["graph"]["sha256"]), str(manifest["precision"])
        arguments = tuple(map(str, manifest.get("arguments") or ()))
    except (ExportError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(f"{path}: not a model folder's manifest: {error}") from error
    if hashlib.sha256(graph).hexdigest() != digest:
        raise ExportError(f"{folder}: the graph is not the one that {MANIFEST_FILE} describes; export it again")
    if not arguments:
        raise ExportError(f"{path}: arguments is missing or empty, so how it was made is unknown; export it again")
    return ModelFolder(graph, digest, precision, arguments)


def check_destination(out: Path, *, force: bool) -> None:
    """Reject a destination that must not be written, before any long work; create the parent folders.

    Raises:
        ExportError: It already exists, without `force`; or, with it, it is not a model folder.
        OSError: The parent cannot be created.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(out):
        return
    if not force:
        raise ExportError(f"{out} already exists; --force replaces it")
    if out.is_symlink() or not out.is_dir():
        raise ExportError(f"{out} is not a folder; not replaced")
    foreign = {entry.name for entry in out.iterdir()} - {GRAPH_FILE, MANIFEST_FILE}
    if foreign:
        raise ExportError(f"{out} contains more than a model ({min(foreign)}); not replaced")


def write_folder(out: Path, files: Mapping[str, bytes], *, force: bool) -> None:
    """Write the files and make the folder appear; a failure or an interrupt leaves nothing behind.

    Args:
        out: An absolute path.
        files: File name -> content.
        force: Whether an existing model folder is replaced.

    Raises:
        ExportError: As `check_destination`.
        OSError: The disk cannot take it; the destination is as it was.
    """
    check_destination(out, force=force)
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
    """Exchange two folders' names: in one step where the system can, else by renames with a gap."""
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
    """Return whether Linux' `renameat2` exchanged them; other systems and some file systems lack it."""
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
