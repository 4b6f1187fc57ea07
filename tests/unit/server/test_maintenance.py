"""The commands `backup` and `verify`, on a catalog that is being served."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lookalike_server.domain.catalog import EmbeddedProduct, StoredImage
from lookalike_server.store.sqlite import FILE
from support.store_fixtures import opened, product, put, rows, vectors

IMAGE = StoredImage("2689367b205c16ce32ed4200942b8b8b1e262dfc70d9bc9fbc77c49699a4f1df", "image/png", b"ok")


def command(*arguments: object) -> tuple[int, str]:
    """Exit status and everything said."""
    done = subprocess.run(
        [sys.executable, "-m", "lookalike_server", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_backup_of_a_catalog_in_use(tmp_path: Path) -> None:
    """A copy made while the catalog is open and has just been written holds all of it, and serves as one."""
    with opened(tmp_path / "data") as store:
        for number in range(50):
            put(store, f"p{number}", float(number), color="red")
        code, said = command("backup", "--data-dir", tmp_path / "data", tmp_path / "copy.sqlite")
        assert (code, said) == (0, f"{tmp_path / 'copy.sqlite'}: 50 products\n")
        put(store, "later", 1.0)
        expected = rows(store)[:-1]
    (tmp_path / "restored").mkdir()
    (tmp_path / "copy.sqlite").rename(tmp_path / "restored" / FILE)
    with opened(tmp_path / "restored") as store:
        assert rows(store) == expected
    assert command("verify", "--data-dir", tmp_path / "restored") == (0, f"{tmp_path / 'restored'}: whole\n")


def test_backups_that_cannot_be_made(tmp_path: Path) -> None:
    """No catalog, a file that is there already and a folder that is not: each says so, and nothing is left behind."""
    code, said = command("backup", "--data-dir", tmp_path / "none", tmp_path / "copy.sqlite")
    assert (code, "is not there" in said) == (1, True)
    with opened(tmp_path / "data"):
        (tmp_path / "there").write_text("mine")
        code, said = command("backup", "--data-dir", tmp_path / "data", tmp_path / "there")
        assert (code, "is there already" in said) == (1, True)
        code, said = command("backup", "--data-dir", tmp_path / "data", tmp_path / "no folder" / "copy.sqlite")
        assert (code, "cannot copy" in said) == (1, True)
    assert (tmp_path / "there").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "there"]


FAULTS: dict[str, tuple[str, str]] = {
    "short embedding": ("UPDATE embeddings SET vector = x'00000000' WHERE label = 2", "has 4 bytes"),
    "NaN": ("UPDATE embeddings SET vector = CAST(x'0000c07f' || substr(vector, 5) AS BLOB) WHERE label = 2", "NaN"),
    "no embedding": ("DELETE FROM embeddings WHERE label = 2", "has no embedding"),
    "no product": ("PRAGMA foreign_keys = 0; DELETE FROM products WHERE id = 'p1'", "not there"),
    "attributes": ("UPDATE products SET attributes = '[1]' WHERE id = 'p1'", "attributes of 'p1'"),
    "image": ("UPDATE images SET data = x'00'", "not what was stored"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_verify_finds(tmp_path: Path, name: str) -> None:
    """Each kind of damage inside the tables is told in a sentence, and the exit status is 1."""
    with opened(tmp_path) as store:
        store.upsert(EmbeddedProduct(product("p0"), vectors(1.0), (IMAGE,))).result(timeout=60)
        put(store, "p1")
    statement, expected = FAULTS[name]
    _damage(tmp_path / FILE, lambda file: file.executescript(statement))
    code, said = command("verify", "--data-dir", tmp_path)
    assert code == 1
    assert expected in said
    assert said.endswith(f"{tmp_path}: 1 problems\n")


def test_verify_finds_a_broken_page(tmp_path: Path) -> None:
    """A page of the file that was overwritten is found, and the command ends with a sentence."""
    with opened(tmp_path) as store:
        for number in range(200):
            put(store, f"p{number}")
    _damage(tmp_path / FILE, lambda file: file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    with (tmp_path / FILE).open("r+b") as file:
        file.seek(4096 * 6)
        file.write(b"\xff" * 4096)
    code, said = command("verify", "--data-dir", tmp_path)
    assert code == 1
    assert "problems" in said
    assert "Traceback" not in said


def _damage(path: Path, act: Callable[[sqlite3.Connection], object]) -> None:
    file = sqlite3.connect(path, isolation_level=None)
    act(file)
    file.close()
