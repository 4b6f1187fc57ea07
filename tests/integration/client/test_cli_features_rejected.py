"""`lookalike import --vectors --ids`: arrays and command lines that cannot be used as a whole."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from numpy.typing import ArrayLike

from support.arrays import vectors
from support.catalogs import COLUMNS, write_catalog
from support.fake_server import FakeServer
from support.fake_state import DIM

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


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"v": b""}, "v is empty; write the array with numpy.save"),
        ({"v": b"1.0,2.0\n"}, "v is not an .npy file; write the array with numpy.save"),
        ({"v": npz(GOOD)}, "v is an archive of several files (.npz); write the one array with numpy.save"),
        ({"v": npy(GOOD)[:-1]}, "v cannot be read, it may be cut off: "),
        ({"v": npy(GOOD)[:20]}, "v cannot be read, it may be cut off: "),
        (
            {"v": OBJECTS},
            "v holds Python objects, which are not read because reading them may run code; save",
        ),
        ({"v": npy(GOOD.astype(np.int8))}, 'v holds int8; save floats, as array.astype("float32") does'),
        ({"v": npy(GOOD.astype(complex))}, "v holds complex128; save floats"),
        ({"v": npy(GOOD[0])}, f"v is of shape [{DIM}]; vectors are of shape [n, dim]"),
        ({"v": npy(GOOD[None])}, f"v is of shape [1, 4, {DIM}]; vectors are of shape [n, dim]"),
        ({"v": npy(GOOD[:0]), "i": npy(IDS[:0])}, "v has no rows"),
        ({"v": npy(GOOD[:3])}, "i has 4 ids; each row needs one"),
        ({"v": npy(np.ones((DIM, 4)))}, "i has 4 ids; each row needs one; is v transposed?"),
        (
            {"v": npy(np.ones((4, 2048)))},
            "v holds vectors of 2048 numbers, and the embeddings of the server's model",
        ),
        ({"v": npy(np.ones((4, 0)))}, "v holds vectors of 0 numbers, and "),
        (
            {"i": OBJECTS},
            "i holds Python objects, which are not read because reading them may run code; save",
        ),
        (
            {"i": npy([1.0, 2.0, 3.0, 4.0])},
            "i holds float64; save strings, bytes or integers, as array.astype(str)",
        ),
        ({"i": npy([True] * 4)}, "i holds bool; save strings"),
        ({"i": npy(IDS[:, None])}, "i is of shape [4, 1]; one entry a row is needed, of shape [n]"),
        ({"i": npy("a")}, "i is of shape []; one entry a row is needed"),
        ({"c": npy(IDS[:3])}, "c has 3 entries; each row needs one"),
        ({"c": npz(IDS)}, "c is an archive"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_arrays_that_cannot_be_used(
    lookalike: Lookalike, fake: FakeServer, tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    """One line with the file, its problem and what to do; exit code 1, and no product is sent."""
    contents = {"v": npy(GOOD), "i": npy(IDS), "c": npy(IDS)} | files
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    v, i, c = (tmp_path / name for name in "vic")
    result = lookalike("import", "--vectors", v, "--ids", i, "--categories", c)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"lookalike: {tmp_path}")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert fake.requests("ImportProducts") == []


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
    """A catalog of facts without its columns or without rows is rejected before anything is sent."""
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
        ("--vectors f", "--vectors and --ids go together"),
        ("--ids f --category Men", "--vectors and --ids go together"),
        ("--vectors f --ids f", "exactly one of --category, --categories and --catalog"),
        ("--vectors f --ids f --category Men --categories f", "exactly one of"),
        ("--vectors f --ids f --category=", "exactly one of"),
        ("f --vectors f --ids f --category Men", "With --vectors the catalog is an option: --catalog f."),
        ("f --category Men", "go with --vectors and --ids"),
        ("--vectors f --ids f --category Men --category-column x", "--category-column is a column of a CSV"),
    ],
)
def test_command_lines_that_do_not_go_together(
    lookalike: Lookalike, fake: FakeServer, tmp_path: Path, words: str, message: str
) -> None:
    """What belongs together and what does not is said before any file is read; exit code 2."""
    (tmp_path / "f").write_bytes(b"")
    result = lookalike("import", *(str(tmp_path / "f") if word == "f" else word for word in words.split()))
    assert result.exit_code == 2
    assert message.replace(" f.", f" {tmp_path / 'f'}.") in " ".join(result.stderr.split())
    assert fake.calls == []


def test_a_file_that_is_not_there(lookalike: Lookalike, tmp_path: Path) -> None:
    """A path that does not exist is named."""
    result = lookalike("import", "--vectors", tmp_path / "no.npy", "--ids", tmp_path / "no.npy", "--category", "x")
    assert result.exit_code == 2
    assert "no.npy" in result.stderr
