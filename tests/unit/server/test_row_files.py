"""Rows on disk: a start maps them and reads none from the store, and no damage to them makes a result wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import xxhash

from crash.disks import fill, memory
from lookalike_server.domain.catalog import EmbeddedProduct, IndexRow, Labels, SegmentFile
from lookalike_server.domain.events import RowFileFailed, RowFileUnusable
from lookalike_server.domain.filters import OneOf
from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.domain.search import IndexQuery
from lookalike_server.index.category_index import CategoryIndex
from lookalike_server.index.graph import HnswSettings
from lookalike_server.index.pacing import Pacing
from lookalike_server.index.row_blocks import is_mapped
from lookalike_server.index.row_files import RowColumns, RowFiles
from lookalike_server.index.row_storage import GrowingMatrix, block_rows
from lookalike_server.index.segment import PartitionSettings
from lookalike_server.index.trusted_files import TrustedFiles
from lookalike_server.store.catalog_store import Store
from support.damaged_files import cut, flipped
from support.fakes import RecordingObserver
from support.index_model import vectors
from support.index_sources import HeldSource
from support.store_fixtures import MODEL, opened, product

DIM = 32
COUNT = 120
COSINE = replace(MODEL, dim=DIM, metric=Metric.COSINE)
VECTORS = vectors(400, DIM, Metric.COSINE, seed=1)
SETTINGS = PartitionSettings(
    DIM, Metric.COSINE, 50, HnswSettings(m=8, ef_construction=40, ef_search=40), 512, min_row_file_bytes=1
)


class CountingSource(HeldSource):
    """A store that says which rows were read with their vectors, and whose attributes can be held back."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.read: list[int] = []
        self.reading_attributes = threading.Event()
        self.attributes_may_be_read = threading.Event()
        self.attributes_may_be_read.set()

    def rows_with(self, labels: Labels) -> Iterator[IndexRow]:
        """Read rows."""
        for row in self._store.rows_with(labels):
            self.read.append(row.label)
            yield row

    def attributes(self, category: str) -> Iterator[tuple[int, dict[str, str]]]:
        """Read all attributes, then wait until they may be used."""
        rows = [(label, dict(attributes)) for label, attributes in self._store.attributes(category)]
        self.reading_attributes.set()
        assert self.attributes_may_be_read.wait(60)
        yield from rows


@dataclass
class Catalog:
    """A store, an index over it, and what they did."""

    folder: Path
    store: Store
    source: CountingSource
    index: CategoryIndex
    observer: RecordingObserver

    @property
    def unusable(self) -> list[tuple[str, str]]:
        """Category and reason of each file of rows that was not used."""
        return [(event.category, event.reason) for event in self.observer.of(RowFileUnusable)]

    def put(self, *numbers: int, category: str = "Shoes", shift: int = 0, color: str = "red") -> None:
        """Store products pN with the vectors VECTORS[N + shift]."""
        for number in numbers:
            row = VECTORS[number + shift][np.newaxis]
            self.store.upsert(EmbeddedProduct(product(f"p{number}", category, color=color), row)).result(60)

    def check(self, *categories: str) -> None:
        """Compare searches, exact ones and those by graph, with and without a filter, with the store's vectors."""
        for category in categories or ("Shoes",):
            stored = [row for _, row in self.store.rows_of([category])]
            for color in (None, "red", "blue"):
                rows = [row for row in stored if color in (None, row.attributes["color"])]
                for query in VECTORS[::60]:
                    distances = 1.0 - np.array([row.vector for row in rows]).reshape(-1, DIM) @ query
                    nearest = sorted(zip(distances, (row.product_id for row in rows), strict=True))[:5]
                    conditions = [OneOf("color", frozenset({color}))] if color else []
                    for exact in (True, False):
                        (result,) = self.index.search(
                            [IndexQuery(query[np.newaxis], 5)], category=category, exact=exact, conditions=conditions
                        )
                        assert [hit.product_id for hit in result.hits] == [product_id for _, product_id in nearest]


@contextmanager
def running(folder: Path, settings: PartitionSettings = SETTINGS, index: Path | None = None) -> Iterator[Catalog]:
    """Open a catalog until the end of the block."""
    observer = RecordingObserver()
    opened_index = CategoryIndex(settings, observer)
    with opened(folder, replace(COSINE, dim=settings.dim), opened_index.apply) as store:
        source = CountingSource(store)
        opened_index.open(source, index or folder / "index")
        try:
            yield Catalog(folder, store, source, opened_index, observer)
        finally:
            source.attributes_may_be_read.set()
            opened_index.close()


def row_files(folder: Path) -> list[Path]:
    """Return the files of rows, by size and then by name."""
    return sorted((folder / "index").glob("*.rows"), key=lambda path: (path.stat().st_size, path.name))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of 120 shoes and as many hats, whose graphs and rows are on disk."""
    folder = tmp_path_factory.mktemp("made") / "data"
    with running(folder) as catalog:
        catalog.put(*range(0, COUNT, 2))
        catalog.put(*range(1, COUNT, 2), color="blue")
        catalog.put(*range(200, 200 + COUNT), category="Hats")
        catalog.index.wait_until_idle()
    with running(folder) as catalog:  # which writes what has grown by little
        catalog.index.wait_until_idle()
        assert len(row_files(folder)) == 2
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """Return a copy of it that a test may change."""
    shutil.copytree(made, tmp_path / "data")
    return tmp_path / "data"


def labels_in(folder: Path) -> set[int]:
    """Return the labels of all rows on disk."""
    with opened(folder, COSINE) as store:
        files = RowFiles(TrustedFiles(folder / "index", store, RecordingObserver()), DIM, 1, RecordingObserver())
        loaded = [files.load(category) for category in ("Shoes", "Hats")]
    return {label for rows in loaded if rows for label in rows.labels.tolist()}


def test_a_start_reads_only_what_is_not_on_disk(folder: Path) -> None:
    """Vectors of rows that were saved are not read from the store, and results are those of its vectors."""
    saved = labels_in(folder)
    assert len(saved) > COUNT
    with running(folder) as catalog:
        catalog.check("Shoes", "Hats")
        assert saved.isdisjoint(catalog.source.read)
        assert len(saved) + len(catalog.source.read) == 2 * COUNT
        assert catalog.unusable == []


def test_without_files_all_rows_are_read(folder: Path) -> None:
    """The control: without the folder everything comes from the store, and is written again."""
    shutil.rmtree(folder / "index")
    with running(folder) as catalog:
        catalog.check("Shoes", "Hats")
        assert len(catalog.source.read) == 2 * COUNT
        catalog.index.wait_until_idle()
    assert len(row_files(folder)) == 2


def test_products_that_changed_since_rows_were_saved(folder: Path) -> None:
    """Replaced, deleted, moved, new and updated products are right at the next start, though the file is an old one."""
    before = row_files(folder)
    saved = labels_in(folder)
    with running(folder) as catalog:
        catalog.index.wait_until_idle()
        catalog.put(0, shift=150)
        catalog.store.delete("p2").result(60)
        catalog.put(4, category="Hats")
        catalog.put(200)
        catalog.put(130, color="blue")
        catalog.store.update_attributes("p6", {"color": "blue"}, []).result(60)
        catalog.store.update_attributes("p1", {"color": "red"}, []).result(60)
        catalog.check("Shoes", "Hats")
    assert row_files(folder) == before
    with running(folder) as catalog:
        catalog.check("Shoes", "Hats")
        assert saved.isdisjoint(catalog.source.read)
        catalog.index.wait_until_idle()
        catalog.check("Shoes", "Hats")
        # Rows that come after the saved ones, in their last block.
        catalog.put(*range(131, 140))
        catalog.store.delete("p8").result(60)
        catalog.check("Shoes", "Hats")
    with running(folder) as catalog:
        catalog.check("Shoes", "Hats")


def test_rows_are_saved_again_once_they_grew(folder: Path) -> None:
    """A file that lacks more than an eighth of the rows, or has many deleted ones, is replaced by a new one."""
    before = set(row_files(folder))
    with running(folder) as catalog:
        catalog.put(*range(120, 200))
        catalog.index.wait_until_idle()
    grown = set(row_files(folder))
    assert len(grown) == 2
    assert len(grown & before) == 1  # that of the hats
    with running(folder) as catalog:
        for number in range(120):
            catalog.store.delete(f"p{number}").result(60)
        catalog.index.wait_until_idle()
        catalog.check("Shoes", "Hats")
    assert len(set(row_files(folder)) - grown) == 1
    with running(folder) as catalog:
        catalog.check("Shoes", "Hats")
        assert len(catalog.source.read) < COUNT // 4  # the hats that the made file lacks


def test_an_emptied_category(folder: Path) -> None:
    """Its file is deleted."""
    with running(folder) as catalog:
        catalog.index.wait_until_idle()
        for number in range(200, 200 + COUNT):
            catalog.store.delete(f"p{number}").result(60)
        catalog.index.wait_until_idle()
        catalog.check()
    assert len(row_files(folder)) == 1


def test_a_catalog_restored_beside_newer_files(folder: Path) -> None:
    """A backup brings its own list of files, so that labels that are used again never meet the wrong vectors."""
    shutil.copy(folder / "catalog.sqlite", folder / "backup")
    with running(folder) as catalog:
        catalog.put(*range(120, 200))
        catalog.index.wait_until_idle()
    for name in ("catalog.sqlite-wal", "catalog.sqlite-shm"):
        (folder / name).unlink(missing_ok=True)
    shutil.move(folder / "backup", folder / "catalog.sqlite")
    with running(folder) as catalog:
        catalog.put(*range(120, 200), shift=100)
        catalog.check("Shoes", "Hats")
        catalog.index.wait_until_idle()
    with running(folder) as catalog:
        catalog.check("Shoes", "Hats")


def swapped_rows(path: Path) -> None:
    """Exchange the file's last two rows."""
    data = path.read_bytes()
    size = 4 * DIM
    path.write_bytes(data[: -2 * size] + data[-size:] + data[-2 * size : -size])


def swapped_files(path: Path) -> None:
    """Replace the file by that of the other category."""
    shutil.copy(next(each for each in row_files(path.parent.parent) if each != path), path)


def longest_head(path: Path) -> None:
    """Let the file say that its head is as long as can be."""
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


@pytest.mark.parametrize(
    "damage",
    [
        *(pytest.param(flipped(share), id=f"flipped-{share:.2f}") for share in (0.0, 0.02, 0.1, 0.5, 0.8, 1.0)),
        *(pytest.param(cut(share), id=f"cut-{share:.4f}") for share in (0.0, 0.0001, 0.01, 0.5, 0.9999)),
        pytest.param(lambda path: path.write_bytes(path.read_bytes() + b"\0"), id="longer"),
        pytest.param(lambda path: path.write_bytes(bytes(path.stat().st_size)), id="zeros"),
        pytest.param(Path.unlink, id="missing"),
        swapped_rows,
        swapped_files,
        longest_head,
    ],
)
def test_damage(folder: Path, damage: Callable[[Path], None]) -> None:
    """A damaged or missing file is reported, results are those of the store, and a valid file replaces it."""
    victim = row_files(folder)[0]
    damage(victim)
    with running(folder) as catalog:
        catalog.check("Shoes", "Hats")
        ((category, reason),) = catalog.unusable
        assert category in ("Shoes", "Hats")
        assert reason
        assert COUNT <= len(catalog.source.read) < 2 * COUNT
        catalog.index.wait_until_idle()
        assert catalog.observer.maintenance_faults == []
    with running(folder) as catalog:
        catalog.check("Shoes", "Hats")
        assert catalog.unusable == []
        assert len(catalog.source.read) < COUNT


@pytest.mark.parametrize("setting", ["format", "dim", "block_rows", "byteorder"])
def test_a_file_of_another_version_or_settings(folder: Path, setting: str) -> None:
    """A whole file that the catalog trusts, but that is of another kind, is reported and written again."""
    with opened(folder, COSINE) as store:
        files = store.segments()["Shoes"]
        old = next(file for file in files if file.name.endswith(".rows"))
        path = folder / "index" / old.name
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        line, _, arrays = data[24:size].partition(b"\n")
        kind = json.loads(line)
        kind[setting] = 7
        # As many bytes, so that nothing else of the file moves.
        body = json.dumps(kind).encode().ljust(len(line))[: len(line)] + b"\n" + arrays
        changed = data[:8] + xxhash.xxh3_128_digest(body) + body + data[size:]
        path.write_bytes(changed)
        trusted = SegmentFile(old.name, len(changed), hashlib.sha256(changed).hexdigest())
        store.replace_segments("Shoes", [trusted if file is old else file for file in files]).result(60)
    with running(folder) as catalog:
        catalog.check("Shoes", "Hats")
        ((category, reason),) = catalog.unusable
        assert (category, reason.partition(":")[0]) == ("Shoes", "it was written with other settings")
        catalog.index.wait_until_idle()
    with running(folder) as catalog:
        catalog.check("Shoes", "Hats")
        assert catalog.unusable == []


@pytest.mark.parametrize("leave", [0, 12 << 10])
def test_a_full_disk(folder: Path, tmp_path: Path, leave: int) -> None:
    """Where rows do not fit, the log says so, no part of a file is left, and a later start saves them."""
    with memory(tmp_path, 4 << 10) as disk:
        index = disk / "index"
        index.mkdir()
        with running(folder, index=index):
            pass  # which forgets the other files
        shutil.rmtree(index)
        index.mkdir()
        ballast = fill(disk, leave)
        with running(folder, index=index) as catalog:
            catalog.check("Shoes", "Hats")
            catalog.index.wait_until_idle()
            assert catalog.observer.of(RowFileFailed)
            assert list(index.glob("*.rows*")) == []
            catalog.check("Shoes", "Hats")
        ballast.unlink()
        for _ in range(2):
            with running(folder, index=index) as catalog:
                catalog.check("Shoes", "Hats")
                catalog.index.wait_until_idle()
                catalog.check("Shoes", "Hats")
        assert len(list(index.glob("*.rows"))) == 2
        assert catalog.source.read == []


def test_a_disk_that_gets_full_while_rows_are_mapped(folder: Path, tmp_path: Path) -> None:
    """Rows that come after mapped ones need no room on the disk: no signal, and every product is found."""
    with memory(tmp_path, 8 << 10) as disk:
        shutil.copytree(folder / "index", disk / "index")
        with running(folder, index=disk / "index") as catalog:
            catalog.check("Shoes", "Hats")
            assert len(catalog.source.read) < COUNT
            fill(disk)
            catalog.put(*range(120, 200))
            catalog.check("Shoes", "Hats")
            catalog.index.wait_until_idle()
            catalog.check("Shoes", "Hats")


def test_attributes_are_read_when_a_filter_needs_them(folder: Path) -> None:
    """A search without a filter does not wait for them; changes made while they are read are right afterwards."""
    with running(folder) as catalog:
        source = catalog.source
        source.attributes_may_be_read.clear()
        (result,) = catalog.index.search([IndexQuery(VECTORS[:1], 1)], category="Shoes", exact=True)
        assert [hit.product_id for hit in result.hits] == ["p0"]
        assert not catalog.index.is_cheap("Shoes")  # a search with a filter would wait
        assert source.reading_attributes.wait(60)
        catalog.store.update_attributes("p0", {"color": "blue"}, []).result(60)
        catalog.store.update_attributes("p2", {"color": "blue"}, []).result(60)
        catalog.store.update_attributes("p2", {"color": "red", "size": "9"}, []).result(60)
        catalog.store.delete("p4").result(60)
        catalog.put(1, color="red")
        catalog.put(125, color="blue")
        source.attributes_may_be_read.set()
        catalog.check("Shoes", "Hats")
        catalog.index.wait_until_idle()
        catalog.check("Shoes", "Hats")


@contextmanager
def files_of(folder: Path, dim: int) -> Iterator[RowFiles]:
    """Open the files of rows of an empty catalog."""
    observer = RecordingObserver()
    with opened(folder, replace(COSINE, dim=dim)) as store:
        yield RowFiles(TrustedFiles(folder / "index", store, observer), dim, 1, observer)
    assert observer.of(RowFileUnusable) == []


@pytest.mark.parametrize(("dim", "beyond"), [(2048, 100), (3000, 1)])
def test_rows_of_several_blocks(tmp_path: Path, dim: int, beyond: int) -> None:
    """Blocks of any length come back as they were, mapped, and rows can be added to the last one and beyond it."""
    count = block_rows(dim) + beyond
    rows = np.random.default_rng(1).random((count + 3, dim), dtype=np.float32)
    matrix = GrowingMatrix(dim)
    matrix.reserve(count)
    matrix.put(0, rows[:count])
    ids = [f"p\0{number} é" for number in range(count)]
    saved = RowColumns(np.arange(count) + 7, ids, np.arange(count, dtype=np.int32) % 3, matrix.until(count))
    with files_of(tmp_path, dim) as files:
        assert files.is_due("c", count)
        files.save("c", saved, Pacing())
        assert not files.is_due("c", count)
    with files_of(tmp_path, dim) as files:
        loaded = files.load("c")
        assert loaded is not None
        assert (loaded.labels.tolist(), loaded.product_ids) == (saved.labels.tolist(), ids)
        assert loaded.image_indexes.tolist() == saved.image_indexes.tolist()
    _check_chunks(loaded, rows[:count])
    grown = GrowingMatrix.of(dim, SETTINGS.memory, loaded.vectors.blocks)
    assert grown.capacity == 2 * block_rows(dim)
    grown.put(count, rows[count:])
    np.testing.assert_array_equal(grown.until(count + 3)[np.arange(count - 2, count + 3)], rows[-5:])
    _check_chunks(loaded, rows[:count])


def _check_chunks(loaded: RowColumns, rows: Floats) -> None:
    begin = 0
    for chunk in loaded.vectors.chunks():
        assert is_mapped(chunk)
        np.testing.assert_array_equal(chunk, rows[begin : begin + len(chunk)])
        begin += len(chunk)
    assert begin == len(rows)
