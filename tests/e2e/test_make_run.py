"""`make run`: a store for each catalog, and what changed in one since the last run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.catalogs import good_row, write_catalog
from support.paths import MODELS, ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("make") is None, reason="make is missing"),
    pytest.mark.skipif(not (ROOT / ".venv/bin/lookalike").exists(), reason="`make setup` has not made .venv"),
]


def make_run(catalog: Path, *variables: str) -> str:
    """Run `make run` until the server serves and the example is answered, and return what it printed."""
    # -o: the environment is not made again
    command = ["make", "--no-print-directory", "-o", ".venv/ready", "run", f"CATALOG={catalog}", *variables]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    lines = []
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(  # a socket's path must be short
            [*command, f"MODEL={MODELS / 'tiny'}", f"LISTEN=unix:{folder}/socket"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line)
                if line.startswith("run: serving"):
                    break
        finally:
            os.killpg(process.pid, signal.SIGINT)
            lines.extend(process.stdout)
    return "".join(lines)


@pytest.fixture
def stores() -> Iterator[Callable[[str], Path]]:
    """Return a function that finds the store that a run names, which is removed at the end."""
    found: set[Path] = set()

    def store(output: str) -> Path:
        (name,) = re.findall(r"^run: the store of this catalog is (.*)$", output, re.MULTILINE)
        found.add(ROOT / name)
        return ROOT / str(name)

    yield store
    for each in found:
        shutil.rmtree(each, ignore_errors=True)


def test_each_catalog_has_a_store_and_is_asked_about(tmp_path: Path, stores: Callable[[str], Path]) -> None:
    """Two files `sample/catalog.csv` have stores of their own; a link to one has its store; changes are found."""
    for shop, ids in (("one", "ab"), ("two", "xyz")):
        folder = tmp_path / shop / "sample"
        folder.mkdir(parents=True)
        write_catalog(folder, [good_row(folder, product_id) for product_id in ids])
    one, two = (tmp_path / shop / "sample" / "catalog.csv" for shop in ("one", "two"))
    (tmp_path / "link").symlink_to(one.parent)

    first, second = make_run(one), make_run(two)
    assert "imported 2 of 2 rows" in first
    assert "Products similar to 'Product a' (a, Men):" in first
    assert "imported 3 of 3 rows" in second
    assert "Products similar to 'Product x' (x, Men):" in second
    assert stores(first) != stores(second)
    assert stores(first).parent == ROOT / "data" / "stores"

    one.write_text(one.read_text(encoding="utf-8").replace("Product b", "Another title"), encoding="utf-8")
    again = make_run(tmp_path / "link" / "catalog.csv")
    assert "imported 1 of 2 rows" in again
    assert "added 0, changed 1, unchanged 1, failed 0" in again
    assert stores(again) == stores(first)


def test_the_store_and_the_reading_can_be_chosen(tmp_path: Path) -> None:
    """`DATA=` is the folder of the store, and `IMPORT=` has options of the import."""
    catalog = write_catalog(tmp_path, [good_row(tmp_path, "a")], columns=("product_id", "brand", "title", "image", "x"))
    output = make_run(catalog, f"DATA={tmp_path / 'my store'}", "IMPORT=--category-column brand")
    assert "Products similar to 'Product a' (a, Men):" in output
    assert (tmp_path / "my store" / "catalog.sqlite").exists()
