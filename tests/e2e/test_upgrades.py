"""What docs/upgrades.md says of a catalog and a server of different versions, with the real commands."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from lookalike_client import Client
from lookalike_server.store.migrations import MIGRATIONS
from support.paths import GOLDEN, ROOT
from support.processes import server_process

PAGE = ROOT / "docs" / "upgrades.md"


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `lookalike-server` to its end."""
    words = [sys.executable, "-m", "lookalike_server", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


def schema(file: Path) -> int:
    """Return the schema version of a catalog's file."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return int(version)


def served(folder: Path) -> dict[str, str]:
    """Serve a catalog and return its products' titles."""
    with server_process(GOLDEN / "model-1", folder) as server, Client(server.address) as client:
        return {product.id: product.title for product in client.products()}


def test_page_names_the_schema() -> None:
    """docs/upgrades.md says which schema this version writes."""
    assert f"This version writes schema {len(MIGRATIONS)}." in PAGE.read_text(encoding="utf-8")


def test_rollback_by_backup(tmp_path: Path) -> None:
    """A backup of an old catalog keeps its schema when the catalog itself is upgraded, and has the same products."""
    data, kept = tmp_path / "data", tmp_path / "kept"
    shutil.copytree(GOLDEN / "data-3", data)
    kept.mkdir()
    assert command("backup", "--data-dir", data, kept / "catalog.sqlite").returncode == 0
    upgraded = served(data)
    assert (schema(data / "catalog.sqlite"), schema(kept / "catalog.sqlite")) == (len(MIGRATIONS), 3)
    assert served(kept) == upgraded


@pytest.mark.parametrize("name", ["serve", "verify", "vacuum", "reembed"])
def test_older_server_leaves_a_newer_catalog_alone(tmp_path: Path, name: str) -> None:
    """Every command that reads or changes the catalog ends with one line, and the file keeps every byte."""
    file = tmp_path / "catalog.sqlite"
    shutil.copy(GOLDEN / "data-3" / "catalog.sqlite", file)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = file.read_bytes()
    model = ("--model", GOLDEN / "model-1") if name in {"serve", "reembed"} else ()
    done = command(name, "--data-dir", tmp_path, *model)
    assert done.returncode == 1
    assert "version" in done.stderr.splitlines()[-1]
    assert file.read_bytes() == before
