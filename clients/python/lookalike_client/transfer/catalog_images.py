"""Reads the images that a catalog names: regular files in its folder, and nothing else unless that is allowed."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path, PurePosixPath

MAX_IMAGE_BYTES = 31 * 1024 * 1024
"""The largest image sent."""

_MAX_SEARCHED = 1_000_000
"""The most files among which a bare file name is searched."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://|data:", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_ALLOW = "--allow-outside reads it"


class ImageFolder:
    """The images of a catalog.

    Args:
        folder: The folder of the CSV.
        allow_outside: Whether to follow absolute paths, `..` and links that lead out of the folder.
    """

    def __init__(self, folder: Path, *, allow_outside: bool = False) -> None:
        self._folder = folder
        self._root = Path(os.path.realpath(folder))
        self._allow_outside = allow_outside
        self._by_name: dict[str, list[str]] | None = None

    def __repr__(self) -> str:
        return f"<ImageFolder {self._folder}>"

    def read(self, image: str) -> bytes:
        """Return the bytes of an image.

        Args:
            image: A path relative to the folder, with slashes or backslashes; or a file's name without folders, which
                is searched in the folder and must be in there once.

        Raises:
            OSError: It cannot be read.
            ValueError: It is no such path, or not a file to read; written for the user.
        """
        path = self._find(image)
        _check_regular(path.stat())
        # a pipe that has taken the file's place since would wait for a writer
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            _check_regular(os.fstat(descriptor))
            data = file.read(MAX_IMAGE_BYTES + 1)
        if len(data) > MAX_IMAGE_BYTES:
            raise ValueError(f"larger than {MAX_IMAGE_BYTES // 1024 // 1024} MiB")
        return data

    def _find(self, image: str) -> Path:
        if url := _URL.match(image):
            action = "give the path itself," if url[0].lower() == "file://" else "download the image, and give its path"
            raise ValueError(f"is a URL ({url[0]}); {action} relative to the CSV")
        if _DRIVE.match(image) and os.name != "nt":
            raise ValueError("is a path of Windows; give the path relative to the CSV")
        if "\\" in image and not (self._folder / image).exists():
            image = image.replace("\\", "/")
        if not self._allow_outside:
            if image.startswith("/") or Path(image).is_absolute():
                raise ValueError(f"is an absolute path; give the path relative to the CSV, or {_ALLOW}")
            if ".." in PurePosixPath(image).parts:
                raise ValueError(f"has .., which leads out of the CSV's folder; {_ALLOW}")
        path = self._folder / image
        if "/" not in image and not os.path.lexists(path):
            path = self._search(image) or path
        if not self._allow_outside and not Path(os.path.realpath(path)).is_relative_to(self._root):
            raise ValueError(f"is a link that leads out of the CSV's folder; {_ALLOW}")
        return path

    def _search(self, name: str) -> Path | None:
        """Return the one file of this name below the folder, None where there is none."""
        if self._by_name is None:
            self._by_name = _files_by_name(self._root)
        paths = sorted(self._by_name.get(name, ()))
        if len(paths) > 1:
            raise ValueError(f"is in {len(paths):,} folders, for instance {paths[0]} and {paths[1]}; give the path")
        return self._root / paths[0] if paths else None


def _files_by_name(root: Path) -> dict[str, list[str]]:
    """Return the paths of all files below a folder by their names; none where there are too many to search."""
    found: dict[str, list[str]] = {}
    count = 0
    for folder, _, names in os.walk(root):
        count += len(names)
        if count > _MAX_SEARCHED:
            return {}
        for name in names:
            found.setdefault(name, []).append(str(Path(folder, name).relative_to(root)))
    return found


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is not a regular file")
