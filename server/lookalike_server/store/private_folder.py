"""The catalog's folder is its owner's alone: a shop's images and vectors are nobody else's to read."""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OURS = ("catalog.sqlite*", "index")


def make_private(folder: Path) -> bool:
    """Make the folder when it is missing, with mode 0700, and take what is ours in it from everybody but its owner.

    Returns:
        Whether others can look into a folder that was there: it keeps its mode, for it may be more than a catalog's.

    Raises:
        OSError: It cannot be made or read.
    """
    folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    for path in (path for pattern in _OURS for path in folder.glob(pattern)):
        mode = path.lstat().st_mode
        if mode & _OTHERS and not stat.S_ISLNK(mode):
            with suppress(PermissionError):  # another user's, who decides
                path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
    return bool(folder.stat().st_mode & _OTHERS)
