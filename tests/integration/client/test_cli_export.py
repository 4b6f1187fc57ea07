"""`lookalike export`: what it writes, what it rejects, and that its files are whole or not there."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow.parquet
import pytest
from click.testing import Result
from google.protobuf.message import Message
from grpc import StatusCode

from lookalike_client import Client, ExportedProduct, Product
from lookalike_client.transfer.export_npy import NpyWriter
from lookalike_client.transfer.export_parquet import GROUP_BYTES, ParquetWriter
from support.arrays import DIM, features
from support.catalogs import put, stored_vectors
from support.scripted_server import Rejection, ScriptedServer

Lookalike = Callable[..., Result]


def contents(folder: Path) -> list[str]:
    """What is in a folder, hidden files included."""
    return sorted(path.name for path in folder.iterdir())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_arrays_and_a_catalog(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """A folder gets vectors float32 [n, dim], ids [n] and a CSV; the output has the command to import them."""
    lookalike("import", *features(tmp_path, ["b", "a", "b"]), "--category", "Men")
    put(real, "ö", "Women", "Bag, 靴", {"color": "red"})
    out = tmp_path / "out"
    result = lookalike("export", "--out", out)
    assert result.exit_code == 0, result.output
    vectors, ids = np.load(out / "vectors.npy"), np.load(out / "ids.npy")
    assert vectors.dtype == np.float32
    assert ids.tolist() == ["a", "b", "b", "ö"]
    assert np.array_equal(vectors, np.concatenate([stored_vectors(real)[name] for name in ("a", "b", "ö")]))
    assert read_csv(out / "products.csv") == [
        {"product_id": "a", "gender": "Men", "title": "", "image": "", "color": ""},
        {"product_id": "b", "gender": "Men", "title": "", "image": "", "color": ""},
        {"product_id": "ö", "gender": "Women", "title": "Bag, 靴", "image": "", "color": "red"},
    ]
    assert contents(out) == ["ids.npy", "products.csv", "vectors.npy"]
    first, second = result.stdout.splitlines()
    assert first.startswith(f"exported 3 products, 4 vectors of dimension {DIM}, in ")
    assert second == (
        f"to import them: lookalike import --vectors {out}/vectors.npy --ids {out}/ids.npy --catalog {out}/products.csv"
    )


def test_a_parquet_file(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """One file with a row for each image: ids, indexes, titles, attributes as a map, vectors of one dimension."""
    lookalike("import", *features(tmp_path, ["a", "a"]), "--category", "Men")
    put(real, "b", "Women", "Bag", {"size": "", "color": "red"})
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
    assert np.array_equal([row["vector"] for row in rows[:2]], stored_vectors(real)["a"])
    assert contents(out.parent) == ["all.parquet"]


def test_one_category_as_json(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """`--category` exports its products alone, `--json` prints the files and counts."""
    put(real, "a", "Men")
    put(real, "b", "Women")
    out = tmp_path / "out"
    report = json.loads(lookalike("--json", "export", "--out", out, "--category", "Women").stdout)
    assert report["files"] == [str(out / name) for name in ("products.csv", "ids.npy", "vectors.npy")]
    assert (report["products"], report["vectors"], report["dim"], report["notes"]) == (1, 1, DIM, [])
    assert np.load(out / "ids.npy").tolist() == ["b"]


def test_what_a_csv_cannot_hold(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """Another column has the categories where an attribute has its name; attributes that do not fit are reported."""
    put(real, "a", "Shoes", "", {"gender": "Men", "category": "x", "color": "red"})
    put(real, "b", "Shoes", "", {"title": "mine", "size": ""})
    result = lookalike("export", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    rows = read_csv(tmp_path / "out" / "products.csv")
    assert list(rows[0]) == ["product_id", "category_2", "title", "image", "category", "color", "gender"]
    assert [row["category_2"] for row in rows] == ["Shoes", "Shoes"]
    assert "--category-column category_2" in result.stdout
    assert "products.csv lacks some attributes (first of products b)" in result.stderr


@pytest.mark.parametrize(("form", "name"), [("npy", "ids.npy"), ("parquet", "p")])
def test_nothing_is_overwritten_without_force(
    lookalike: Lookalike, server: ScriptedServer, real: Client, tmp_path: Path, form: str, name: str
) -> None:
    """An existing file is rejected before any call; `--force` replaces it and leaves the others alone."""
    put(real, "a")
    for file in (name, "mine"):
        (tmp_path / file).write_text("mine", encoding="utf-8")
    out = tmp_path if form == "npy" else tmp_path / name
    result = lookalike("export", "--out", out, "--format", form)
    assert (result.exit_code, result.stderr) == (1, f"lookalike: {tmp_path / name} exists; --force overwrites it\n")
    assert server.calls == []
    assert contents(tmp_path) == sorted([name, "mine"])
    for _ in range(2):
        assert lookalike("export", "--out", out, "--format", form, "--force").exit_code == 0
    assert (tmp_path / "mine").read_text(encoding="utf-8") == "mine"
    assert (tmp_path / name).read_bytes() != b"mine"


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_an_export_that_breaks_leaves_nothing(
    lookalike: Lookalike, server: ScriptedServer, real: Client, tmp_path: Path, name: str
) -> None:
    """When the server becomes unavailable, the error is printed and there is no file and no folder."""
    for product in "abc":
        put(real, product)
    server.cut_exports(2, 0)
    result = lookalike("export", "--out", tmp_path / name)
    assert result.exit_code == 1
    assert result.stderr.startswith("lookalike: UNAVAILABLE: ")
    assert contents(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((), "the catalog is empty; nothing was written"), (("--category", "Hats"), "no category 'Hats'")],
)
def test_nothing_to_export(lookalike: Lookalike, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    """An empty catalog or category is an error, and nothing is written."""
    result = lookalike("export", "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert contents(tmp_path) == []


def test_a_place_of_the_wrong_kind(lookalike: Lookalike, real: Client, tmp_path: Path) -> None:
    """A file cannot be the folder of arrays, nor a folder the Parquet file, nor anything be under a file."""
    put(real, "a")
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


def test_a_rejected_caller(lookalike: Lookalike, server: ScriptedServer, tmp_path: Path) -> None:
    """What the server rejects is one line, and nothing is written."""
    server.rejections = [Rejection(StatusCode.UNAUTHENTICATED, "no token")]
    result = lookalike("export", "--out", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (1, "lookalike: UNAUTHENTICATED: no token\n")
    assert contents(tmp_path) == []


def test_parquet_is_written_by_groups(tmp_path: Path) -> None:
    """However many products come, no more vectors than a row group's are kept."""
    dim = GROUP_BYTES // 4 // 100
    path = tmp_path / "p"
    with ParquetWriter(path, force=False) as writer:
        for number in range(250):
            writer.add(ExportedProduct(Product(str(number), "Men"), np.full((1, dim), number, np.float32)))
        writer.finish()
    file = pyarrow.parquet.ParquetFile(path)
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    assert max(sizes) <= 101
    assert sum(sizes) == 250


def test_files_are_not_whole_before_their_end(tmp_path: Path) -> None:
    """Until an export is finished nothing has its name, and the header of the temporary vectors says 0 rows."""
    with NpyWriter(tmp_path, force=False) as writer:
        writer.add(ExportedProduct(Product("a", "Men"), np.ones((2, 3), np.float32)))
        (waiting,) = tmp_path.iterdir()
        assert waiting.suffix == ".partial"
        assert sorted(waiting.glob("*.npy")) == [waiting / "vectors.npy"]
        writer.finish()
        assert np.load(tmp_path / "vectors.npy").shape == (2, 3)
    assert contents(tmp_path) == ["ids.npy", "products.csv", "vectors.npy"]


@pytest.mark.parametrize("name", ["out", "out.parquet"])
def test_an_interrupted_export_leaves_nothing(server: ScriptedServer, real: Client, tmp_path: Path, name: str) -> None:
    """Ctrl-C ends an export with a line, exit status 130, no traceback, and no file and no folder."""
    for product in "abc":
        put(real, product)
    held, released = threading.Event(), threading.Event()

    def hold(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Message]:
        for response in server.forward("lookalike.v1.CatalogService/ExportProducts", requests, context):
            yield response
            held.set()
            released.wait()

    server.handlers["ExportProducts"] = hold
    try:
        command = [sys.executable, "-c", "from lookalike_client.cli import main; main()", "--server", server.address]
        with subprocess.Popen(
            [*command, "export", "--out", str(tmp_path / name)], stdout=-1, stderr=-1, encoding="utf-8"
        ) as process:
            assert held.wait(60)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate()
    finally:
        released.set()
    assert (process.returncode, out) == (130, "")
    assert err == "lookalike: export interrupted; nothing was written\n"
    assert contents(tmp_path) == []


def test_parquet_without_pyarrow_names_the_extra(server: ScriptedServer, real: Client, tmp_path: Path) -> None:
    """Where pyarrow is not installed the message says what to install, and the rest of the command works."""
    put(real, "a")
    script = "import sys; sys.modules['pyarrow'] = None; from lookalike_client.cli import main; main()"
    command = [sys.executable, "-c", script, "--server", server.address, "export", "--out"]
    done = subprocess.run([*command, tmp_path / "p.parquet"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'lookalike-client[parquet]'" in done.stderr
    assert subprocess.run([*command, tmp_path / "out"], capture_output=True, check=False).returncode == 0
