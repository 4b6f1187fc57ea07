"""`lookalike import --vectors --ids`: arrays and command lines that cannot be used as a whole."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from numpy.typing import ArrayLike

from support.arrays import DIM, vectors
from support.catalogs import COLUMNS, write_catalog
from support.scripted_server import ScriptedServer

Lookalike = Callable[..., Result]

GOOD = vectors(4)
IDS = np.array(["a", "b", "c", "d"])


def npy(array: ArrayLike) -> bytes:
    """The bytes of an .npy file."""
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


def npz(array: ArrayLike) -> bytes:
    """The bytes of an .npz file."""
    file = io.BytesIO()
    np.savez(file, np.asarray(array))
    return file.getvalue()


OBJECTS = npy(np.array(["a", "b", None, "d"], dtype=object))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"v": b""}, "v is empty; write the array with numpy.save"),
        ({"v": b"1.0,2.0\n"}, "v is not an .npy file; write the array with numpy.save"),
        ({"v": npz(GOOD)}, "v is an archive of several files (.npz); write the one array with numpy.save"),
        ({"v": npy(GOOD)[:-1]}, "v cannot be read; it may be truncated: "),
        ({"v": npy(GOOD)[:20]}, "v cannot be read; it may be truncated: "),
        (
            {"v": OBJECTS},
            "v has Python objects, which are not read because that may run code; save",
        ),
        ({"v": npy(GOOD.astype(np.int8))}, 'v has dtype int8; save floats, for instance array.astype("float32")'),
        ({"v": npy(GOOD.astype(complex))}, "v has dtype complex128; save floats"),
        ({"v": npy(GOOD[0])}, f"v has shape [{DIM}]; vectors must have shape [n, dim]"),
        ({"v": npy(GOOD[None])}, f"v has shape [1, 4, {DIM}]; vectors must have shape [n, dim]"),
        ({"v": npy(GOOD[:0]), "i": npy(IDS[:0])}, "v has no rows"),
        ({"v": npy(GOOD[:3])}, "i has 4 ids; each row needs one"),
        ({"v": npy(np.ones((DIM, 4)))}, "i has 4 ids; each row needs one; is v transposed?"),
        (
            {"v": npy(np.ones((4, 2048)))},
            "v has vectors of dimension 2048, but the server's model tiny has dimension 48: import vectors",
        ),
        ({"v": npy(np.ones((4, 0)))}, "v has vectors of dimension 0, but "),
        (
            {"i": OBJECTS},
            "i has Python objects, which are not read because that may run code; save",
        ),
        (
            {"i": npy([1.0, 2.0, 3.0, 4.0])},
            "i has dtype float64; save strings, bytes or integers, for instance array.astype(str)",
        ),
        ({"i": npy([True] * 4)}, "i has dtype bool; save strings"),
        ({"i": npy(IDS[:, None])}, "i has shape [4, 1]; it must have one entry per row, shape [n]"),
        ({"i": npy("a")}, "i has shape []; it must have one entry per row"),
        ({"c": npy(IDS[:3])}, "c has 3 entries; each row needs one"),
        ({"c": npz(IDS)}, "c is an archive"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_arrays_that_cannot_be_used(
    lookalike: Lookalike, server: ScriptedServer, tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    """One line with the file, its problem and what to do; exit status 1, and no product is sent."""
    contents = {"v": npy(GOOD), "i": npy(IDS), "c": npy(IDS)} | files
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    v, i, c = (tmp_path / name for name in "vic")
    result = lookalike("import", "--vectors", v, "--ids", i, "--categories", c)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"lookalike: {tmp_path}")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert server.requests("ImportProducts") == []


def test_reading_ids_runs_no_code_of_theirs(lookalike: Lookalike, tmp_path: Path) -> None:
    """A pickle in a file is never loaded."""

    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return (open, (str(tmp_path / "sprung"), "w"))  # type: ignore[return-value]

    (tmp_path / "v").write_bytes(npy(GOOD[:1]))
    (tmp_path / "i").write_bytes(npy(np.array([Trap()], dtype=object)))
    result = lookalike("import", "--vectors", tmp_path / "v", "--ids", tmp_path / "i", "--category", "Men")
    assert result.exit_code == 1
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("columns", "message"),
    [(("x", "y"), "lacks the columns product_id, gender, title"), (COLUMNS, "catalog.csv has no rows")],
)
def test_catalogs_that_cannot_be_used(
    lookalike: Lookalike, tmp_path: Path, columns: tuple[str, ...], message: str
) -> None:
    """A catalog without its columns or without rows is rejected before anything is sent."""
    catalog = write_catalog(tmp_path, [], columns=columns)
    (tmp_path / "v").write_bytes(npy(GOOD))
    (tmp_path / "i").write_bytes(npy(IDS))
    result = lookalike("import", "--vectors", tmp_path / "v", "--ids", tmp_path / "i", "--catalog", catalog)
    assert result.exit_code == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "Give CATALOG.csv, or --vectors and --ids."),
        ("--vectors f", "--vectors and --ids need each other"),
        ("--ids f --category Men", "--vectors and --ids need each other"),
        ("--vectors f --ids f", "exactly one of --category, --categories and --catalog"),
        ("--vectors f --ids f --category Men --categories f", "exactly one of"),
        ("--vectors f --ids f --category=", "exactly one of"),
        ("f --vectors f --ids f --category Men", "With --vectors the catalog is an option: --catalog f."),
        ("f --category Men", "need --vectors and --ids"),
        ("--vectors f --ids f --category Men --category-column x", "--category-column needs a CSV"),
    ],
)
def test_command_lines_that_do_not_go_together(
    lookalike: Lookalike, server: ScriptedServer, tmp_path: Path, words: str, message: str
) -> None:
    """Missing and contradicting options are reported before any file is read; exit status 2."""
    (tmp_path / "f").write_bytes(b"")
    result = lookalike("import", *(str(tmp_path / "f") if word == "f" else word for word in words.split()))
    assert result.exit_code == 2
    assert message.replace(" f.", f" {tmp_path / 'f'}.") in " ".join(result.stderr.split())
    assert server.calls == []


def test_a_file_that_is_not_there(lookalike: Lookalike, tmp_path: Path) -> None:
    """A path that does not exist is named."""
    result = lookalike("import", "--vectors", tmp_path / "no.npy", "--ids", tmp_path / "no.npy", "--category", "x")
    assert result.exit_code == 2
    assert "no.npy" in result.stderr
