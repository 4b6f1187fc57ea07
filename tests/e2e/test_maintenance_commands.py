"""The commands `backup` and `verify`."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from lookalike_server.store.sqlite import FILE
from support.store_fixtures import opened, put


def command(*arguments: object) -> tuple[int, str]:
    """Return the exit status and the output on both streams."""
    done = subprocess.run(
        [sys.executable, "-m", "lookalike_server", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_backup_and_verify(tmp_path: Path) -> None:
    """A catalog in use is copied and its copy verified, each with one line of output; a second backup fails."""
    with opened(tmp_path / "data") as store:
        put(store, "p1", 1.0, 2.0)
        put(store, "p2")
        target = tmp_path / "copy.sqlite"
        assert command("backup", "--data-dir", tmp_path / "data", target) == (0, f"{target}: 2 products\n")
        code, output = command("backup", "--data-dir", tmp_path / "data", target)
        assert (code, "already exists" in output, "Traceback" in output) == (1, True, False)
    (tmp_path / "restored").mkdir()
    target.rename(tmp_path / "restored" / FILE)
    assert command("verify", "--data-dir", tmp_path / "restored") == (0, f"{tmp_path / 'restored'}: no problems\n")
    code, output = command("verify", "--data-dir", tmp_path / "none")
    assert (code, "does not exist" in output, "Traceback" in output) == (1, True, False)


@pytest.mark.slow
def test_verify_of_a_damaged_catalog(tmp_path: Path) -> None:
    """Damage in the tables and an overwritten page are sentences and exit status 1, without a traceback."""
    with opened(tmp_path) as store:
        for number in range(200):
            put(store, f"p{number}")
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as file:
        file.execute("DELETE FROM embeddings WHERE label = 2")
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    code, output = command("verify", "--data-dir", tmp_path)
    assert (code, "product 'p1' has no embedding" in output) == (1, True)
    assert output.endswith(f"{tmp_path}: 1 problems\n")
    with (tmp_path / FILE).open("r+b") as broken:
        broken.seek(4096 * 6)
        broken.write(b"\xff" * 4096)
    code, output = command("verify", "--data-dir", tmp_path)
    assert (code, "problems" in output, "Traceback" in output) == (1, True, False)
