"""A data folder that cannot be used: the server reports it in one line, and exits with status 1."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from crash.catalog import SETTINGS, Catalog
from crash.disks import fill, make_read_only, memory
from crash.variants import variant
from support.paths import MODELS
from support.processes import SERVE


def _faults(folder: Path, reason: str, command: tuple[str, ...] = SERVE) -> list[str]:
    """Start a server that must fail, and return what is wrong with how it ends."""
    done = subprocess.run(
        (*command, "--model", str(MODELS / "tiny"), "--data-dir", str(folder), "--listen", "127.0.0.1:0", *SETTINGS),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"LOOKALIKE_LOG_FORMAT": "json"},
    )
    wrong = [] if done.returncode == 1 else [f"the status is {done.returncode}"]
    output = [line for line in done.stderr.splitlines() if not line.startswith("{")]  # all but the log
    if len(output) != 1 or not output[0].startswith("lookalike-server: ") or str(folder) not in output[0]:
        wrong.append(f"not one line that names the folder: {done.stderr}")
    if reason not in done.stderr:
        wrong.append(f"the reason is not named: {done.stderr}")
    return wrong


async def _leave_a_catalog(folder: Path) -> None:
    """Make a catalog, and let its server crash."""
    catalog = Catalog(folder, seed=1)
    with catalog.served() as server:
        assert await catalog.change(server, 4) == []


@pytest.mark.parametrize(("inside", "reason"), [("", "File exists"), ("data", "Not a directory")])
def test_a_file_in_place_of_the_folder(tmp_path: Path, inside: str, reason: str) -> None:
    """A file in place of the folder, or of its parent, is named."""
    (tmp_path / "taken").write_text("a file")
    assert _faults(tmp_path / "taken" / inside, reason) == []


@pytest.mark.slow
@pytest.mark.parametrize("new", [True, False])
def test_a_read_only_disk(tmp_path: Path, *, new: bool) -> None:
    """A read-only disk is reported, with or without a catalog on it."""
    with memory(tmp_path, 8 << 10) as disk:
        if not new:
            asyncio.run(_leave_a_catalog(disk / "data"))
        make_read_only(disk)
        assert _faults(disk / "data", "Read-only file system") == []


@pytest.mark.slow
@pytest.mark.parametrize("new", [True, False])
def test_a_full_disk(tmp_path: Path, *, new: bool) -> None:
    """A disk without space to create a catalog, or to open one after a crash, is reported; with space it starts."""
    with memory(tmp_path, 8 << 10) as disk:
        if not new:
            asyncio.run(_leave_a_catalog(disk / "data"))
        ballast = fill(disk)
        assert _faults(disk / "data", "full") == []
        ballast.unlink()
        asyncio.run(_leave_a_catalog(disk / "data"))


def test_the_suite_notices_a_traceback(tmp_path: Path) -> None:
    """The control: a server that shows a traceback instead is detected."""
    (tmp_path / "taken").write_text("a file")
    assert _faults(tmp_path / "taken", "File exists", variant("raw"))
