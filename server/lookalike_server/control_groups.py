"""The control group that this process is in, and those around it, whose limits hold for it too (cgroup v1 and v2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def group_folders(files: Path, controller: str) -> Iterator[tuple[str, bool]]:
    """Yield the folders of our groups, innermost first, each with whether it is of version 1.

    Strings, because a start has no time for paths.

    Args:
        files: Where /proc and /sys are.
        controller: For instance "cpu".
    """
    text = read_text(f"{files}/proc/self/cgroup")
    for line in text.splitlines() if text else ():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = f"{files}/sys/fs/cgroup/{controllers}".rstrip("/")
        names = [name for name in path.split("/") if name]
        # In a container its own group is the root, whatever path the host knows it by.
        for depth in range(len(names), -1, -1):
            yield "/".join([root, *names[:depth]]), bool(controllers)


def read_text(path: str) -> str | None:
    """Return the text of a file; None where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return None
