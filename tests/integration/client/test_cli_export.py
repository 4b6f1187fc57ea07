"""`lookalike export`: what it writes, what it rejects, and that its files are whole or not there."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from click.testing import Result
from grpc import StatusCode

from lookalike_client import Exported, Product
from lookalike_client.transfer.export_npy import NpyWriter
from lookalike_client.transfer.export_parquet import GROUP_BYTES, ParquetWriter
from support.arrays import features
from support.fake_rejections import Rejection
from support.fake_server import FakeServer
from support.fake_state import DIM

Lookalike = Callable[..., Result]


def contents(folder: Path) -> list[str]:
    """What is in a folder, hidden files included."""
    return sorted(path.name for path in folder.iterdir())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_arrays_and_a_catalog(lookalike: Lookalike, fake: FakeServer, tmp_path: Path) -> None:
    """A folder with vectors float32 [n, dim], ids [n] and a CSV of the products; says what it wrote and how back."""
    lookalike("import", *features(tmp_path, ["b", "a", "b"]), "--category", "Men")
    fake.put("ö", "Women", "Bag, 靴", {"color": "red"})
    out = tmp_path / "out"
    result = lookalike("export", "--out", out)
    assert result.exit_code == 0, result.output
    vectors, ids = np.load(out / "vectors.npy"), np.load(out / "ids.npy")
    assert vectors.dtype == np.float32
    assert ids.tolist() == ["a", "b", "b", "ö"]
    assert np.array_equal(vectors, np.concatenate([fake.vectors[name] for name in ("a", "b", "ö")]))
    assert read_csv(out / "products.csv") == [
        {"product_id": "a", "gender": "Men", "title": "", "image": "", "color": ""},
        {"product_id": "b", "gender": "Men", "title": "", "image": "", "color": ""},
        {"product_id": "ö", "gender": "Women", "title": "Bag, 靴", "image": "", "color": "red"},
    ]
    assert contents(out) == ["ids.npy", "products.csv", "vectors.npy"]
    first, second = result.stdout.splitlines()
    assert first.startswith(f"exported 3 products, 4 vectors of {DIM} numbers, in ")
    assert second == (
        f"to import them again: lookalike import --vectors {out}/vectors.npy --ids {out}/ids.npy"
        f" --catalog {out}/products.csv"
    )


def test_a_parquet_file(lookalike: Lookalike, fake: FakeServer, tmp_path: Path) -> None:
    """One file with a row for each image: ids, places, facts, attributes as a map, vectors of one length."""
    lookalike("import", *features(tmp_path, ["a", "a"]), "--category", "Men")
    fake.put("b", "Women", "Bag", {"size": "", "color": "red"})
    out = tmp_path / "new" / "all.parquet"
    result = lookalike("export", "--out", out)
    assert result.exit_code == 0, result.output
    table = pyarrow.parquet.read_table(out)
    rows = table.to_pylist()
    assert [(row["id"], row["image_index"], row["category"], row["title"]) for row in rows] == [
        ("a", 0, "Men", ""),
        ("a", 1, "Men", ""),
        ("b", 0, "Women", "Bag"),
    ]
    assert rows[2]["attributes"] == [("color", "red"), ("size", "")]
    assert table.schema.field("vector").type == pyarrow.list_(pyarrow.float32(), DIM)
    assert np.array_equal([row["vector"] for row in rows[:2]], fake.vectors["a"])
    assert contents(out.parent) == ["all.parquet"]


def test_one_category_as_json(lookalike: Lookalike, fake: FakeServer, tmp_path: Path) -> None:
    """`--category` exports its products alone, `--json` tells the files and figures."""
    fake.put("a", "Men")
    fake.put("b", "Women")
    out = tmp_path / "out"
    report = json.loads(lookalike("--json", "export", "--out", out, "--category", "Women").stdout)
    assert report["files"] == [str(out / name) for name in ("products.csv", "ids.npy", "vectors.npy")]
    assert (report["products"], report["vectors"], report["dim"], report["notes"]) == (1, 1, DIM, [])
    assert np.load(out / "ids.npy").tolist() == ["b"]


def test_what_a_csv_cannot_hold(lookalike: Lookalike, fake: FakeServer, tmp_path: Path) -> None:
    """Another column holds the categories where an attribute has its name; what finds no place is named."""
    fake.put("a", "Shoes", "", {"gender": "Men", "category": "x", "color": "red"})
    fake.put("b", "Shoes", "", {"title": "mine", "size": ""})
    result = lookalike("export", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    rows = read_csv(tmp_path / "out" / "products.csv")
    assert list(rows[0]) == ["product_id", "category_2", "title", "image", "category", "color", "gender"]
    assert [row["category_2"] for row in rows] == ["Shoes", "Shoes"]
    assert "--category-column category_2" in result.stdout
    assert "products.csv lacks some attributes (the first are of b)" in result.stderr


@pytest.mark.parametrize(("form", "name"), [("npy", "ids.npy"), ("parquet", "p")])
def test_nothing_is_overwritten_unless_told(
    lookalike: Lookalike, fake: FakeServer, tmp_path: Path, form: str, name: str
) -> None:
    """A file that is there is rejected before anything is asked; `--force` replaces it and leaves the others alone."""
    fake.put("a")
    for file in (name, "mine"):
        (tmp_path / file).write_text("mine", encoding="utf-8")
    out = tmp_path if form == "npy" else tmp_path / name
    result = lookalike("export", "--out", out, "--format", form)
    assert (result.exit_code, result.stderr) == (1, f"lookalike: {tmp_path / name} exists; --force overwrites it\n")
    assert fake.calls == []
    assert contents(tmp_path) == sorted([name, "mine"])
    for _ in range(2):
        assert lookalike("export", "--out", out, "--format", form, "--force").exit_code == 0
    assert (tmp_path / "mine").read_text(encoding="utf-8") == "mine"
    assert (tmp_path / name).read_bytes() != b"mine"


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_an_export_that_breaks_leaves_nothing(
    lookalike: Lookalike, fake: FakeServer, tmp_path: Path, name: str
) -> None:
    """When the server goes away for good in the middle, the error is said and there is no file and no folder."""
    for product in "abc":
        fake.put(product)
    fake.cuts = [2, 0]
    result = lookalike("export", "--out", tmp_path / name)
    assert result.exit_code == 1
    assert result.stderr.startswith("lookalike: UNAVAILABLE: ")
    assert contents(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((), "the server holds no product; nothing was written"), (("--category", "Hats"), "no category 'Hats'")],
)
def test_nothing_to_export(lookalike: Lookalike, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    """An empty catalog or category is an error, and nothing is written."""
    result = lookalike("export", "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert contents(tmp_path) == []


def test_a_place_of_the_wrong_kind(lookalike: Lookalike, fake: FakeServer, tmp_path: Path) -> None:
    """A file cannot be the folder of arrays, nor a folder the Parquet file, nor anything be under a file."""
    fake.put("a")
    (tmp_path / "file").write_bytes(b"")
    for out, form, message in (
        (tmp_path / "file", "npy", "is a file; a NumPy export is a folder of several"),
        (tmp_path, "parquet", "is a folder; a Parquet export is one file"),
        (tmp_path / "file" / "under", "npy", "Not a directory; nothing was written"),
        (tmp_path / "file" / "under", "parquet", "nothing was written"),
    ):
        result = lookalike("export", "--out", out, "--format", form)
        assert result.exit_code == 1
        assert message in result.stderr
    assert contents(tmp_path) == ["file"]


def test_a_rejected_caller(lookalike: Lookalike, fake: FakeServer, tmp_path: Path) -> None:
    """What the server rejects is one line, and nothing is written."""
    fake.rejections = [Rejection(StatusCode.UNAUTHENTICATED, "no token")]
    result = lookalike("export", "--out", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (1, "lookalike: UNAUTHENTICATED: no token\n")
    assert contents(tmp_path) == []


def test_parquet_is_written_by_groups(tmp_path: Path) -> None:
    """However many products come, no more vectors than a row group's are kept."""
    dim = GROUP_BYTES // 4 // 100
    path = tmp_path / "p"
    with ParquetWriter(path, force=False) as writer:
        for number in range(250):
            writer.add(Exported(Product(str(number), "Men"), np.full((1, dim), number, np.float32)))
        writer.finish()
    file = pyarrow.parquet.ParquetFile(path)
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    assert max(sizes) <= 101
    assert sum(sizes) == 250


def test_files_are_not_whole_before_their_end(tmp_path: Path) -> None:
    """Until an export is finished nothing has its name, and the vectors that wait say that they are none."""
    with NpyWriter(tmp_path, force=False) as writer:
        writer.add(Exported(Product("a", "Men"), np.ones((2, 3), np.float32)))
        (waiting,) = tmp_path.iterdir()
        assert waiting.suffix == ".partial"
        assert sorted(waiting.glob("*.npy")) == [waiting / "vectors.npy"]
        writer.finish()
        assert np.load(tmp_path / "vectors.npy").shape == (2, 3)
    assert contents(tmp_path) == ["ids.npy", "products.csv", "vectors.npy"]


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_an_interrupted_export_leaves_nothing(fake: FakeServer, tmp_path: Path, name: str) -> None:
    """Ctrl-C ends an export with a line, exit code 130, no traceback, and no file and no folder."""
    for product in "abc":
        fake.put(product)
    with fake.held_exports() as held:
        command = [sys.executable, "-c", "from lookalike_client.cli import main; main()", "--server", fake.address]
        with subprocess.Popen(
            [*command, "export", "--out", str(tmp_path / name)], stdout=-1, stderr=-1, encoding="utf-8"
        ) as process:
            assert held.wait(60)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert err == "lookalike: export interrupted before its files were whole\n"
    assert contents(tmp_path) == []


def test_parquet_without_pyarrow_names_the_extra(fake: FakeServer, tmp_path: Path) -> None:
    """Where pyarrow is not installed the message says what to install, and the rest of the command works."""
    fake.put("a")
    script = "import sys; sys.modules['pyarrow'] = None; from lookalike_client.cli import main; main()"
    command = [sys.executable, "-c", script, "--server", fake.address, "export", "--out"]
    done = subprocess.run([*command, tmp_path / "p.parquet"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'lookalike-client[parquet]'" in done.stderr
    assert subprocess.run([*command, tmp_path / "out"], capture_output=True, check=False).returncode == 0
