"""Graphs on disk: a restart need not build them, and no damage to them makes a result wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from lookalike_server.domain.catalog import EmbeddedProduct, IndexKind, SegmentFile
from lookalike_server.domain.inference import Metric
from lookalike_server.domain.search import IndexQuery
from lookalike_server.index.category_index import CategoryIndex
from lookalike_server.index.graph import HnswSettings
from lookalike_server.index.segment import PartitionSettings
from lookalike_server.store.catalog_store import Store
from support.damaged_files import cut, flipped
from support.fakes import RecordingObserver
from support.index_model import vectors
from support.paths import GOLDEN
from support.store_fixtures import MODEL, opened, product

DIM = 32
COSINE = replace(MODEL, dim=DIM, metric=Metric.COSINE)
GRAPHS = HnswSettings(m=8, ef_construction=40, ef_search=40)


VECTORS = vectors(400, DIM, Metric.COSINE, seed=1)


def put(store: Store, *numbers: int, category: str = "Shoes", shift: int = 0) -> None:
    """Store products pN with the vectors VECTORS[N + shift]."""
    waiting = [
        store.upsert(EmbeddedProduct(product(f"p{number}", category), VECTORS[number + shift][np.newaxis]))
        for number in numbers
    ]
    for each in waiting:
        each.result(60)


@dataclass
class Catalog:
    """A store, an index over it, and the events that the index reported."""

    folder: Path
    store: Store
    index: CategoryIndex
    observer: RecordingObserver

    def files(self) -> list[Path]:
        """Return the paths in the folder of the index."""
        return sorted((self.folder / "index").iterdir())

    def check(self, category: str = "Shoes") -> None:
        """Compare searches with brute force over the store's vectors."""
        self.index.wait_until_idle()
        stored = [(row.product_id, row.vector) for _, row in self.store.rows_of([category])]
        rows = np.array([vector for _, vector in stored])
        for query in VECTORS[::40]:
            (result,) = self.index.search([IndexQuery(query[np.newaxis], 5)], category=category, exact=False)
            expected = np.sort(1.0 - rows @ query)[:5]
            np.testing.assert_allclose([hit.distance for hit in result.hits], expected, atol=1e-5)


@contextmanager
def running(folder: Path, graphs: HnswSettings = GRAPHS) -> Iterator[Catalog]:
    """Open a catalog until the end of the block."""
    observer = RecordingObserver()
    index = CategoryIndex(PartitionSettings(DIM, Metric.COSINE, 50, graphs, 128), observer)
    with opened(folder, COSINE, index.apply) as store:
        index.open(store, folder / "index")
        try:
            yield Catalog(folder, store, index, observer)
        finally:
            index.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of 300 shoes under three graphs, and ten hats."""
    folder = tmp_path_factory.mktemp("made") / "data"
    with opened(folder, COSINE) as store:
        put(store, *range(300))
        put(store, *range(300, 310), category="Hats")
    with running(folder) as catalog:
        catalog.check()
        assert len(catalog.files()) == 3
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """Return a copy of it that a test may change."""
    shutil.copytree(made, tmp_path / "data")
    return tmp_path / "data"


def test_a_restart_builds_no_graph(folder: Path) -> None:
    """A restart uses the graphs that were built before, over the same rows."""
    with running(folder) as catalog:
        before = catalog.files()
        catalog.check()
        assert catalog.index.kind("Shoes") is IndexKind.HNSW
        assert (catalog.observer.graphs_built, catalog.observer.unusable_files) == ([], [])
        assert catalog.files() == before
        catalog.check("Hats")


def test_rows_that_changed_since_a_graph_was_saved(folder: Path) -> None:
    """Rows deleted or added after a graph was saved are correct at the next start, with or without a newer file."""
    with running(folder) as catalog:
        catalog.index.wait_until_idle()
        for number in range(0, 40, 2):
            catalog.store.delete(f"p{number}").result(60)
        put(catalog.store, 1, 3, 5, shift=50)
        put(catalog.store, 7, 9, category="Hats")
        files = catalog.files()
        catalog.check()
    with running(folder) as catalog:
        catalog.check()
        catalog.check("Hats")
        assert catalog.files() == files
        assert catalog.observer.graphs_built == []
        # With many more deleted rows the others move to new graphs, and the next start finds these.
        for number in range(40, 240):
            catalog.store.delete(f"p{number}").result(60)
        catalog.check()
        assert catalog.observer.graphs_built
        assert catalog.files() != files
    with running(folder) as catalog:
        catalog.check()
        assert catalog.observer.graphs_built == []


def test_the_last_graph_grows(tmp_path: Path) -> None:
    """Later rows are added to the last graph until it is full; its new file replaces the old one."""
    with opened(tmp_path, COSINE) as store:
        put(store, *range(200))
    with running(tmp_path) as catalog:
        catalog.check()
        before = catalog.files()
    with opened(tmp_path, COSINE) as store:
        put(store, *range(200, 252))
    with running(tmp_path) as catalog:
        catalog.check()
        after = catalog.files()
        assert (len(before), len(after), len(set(before) & set(after))) == (2, 2, 1)
    with running(tmp_path) as catalog:
        catalog.check()
        assert (catalog.observer.graphs_built, catalog.files()) == ([], after)


def test_a_rebuilt_graph_of_the_same_size_is_saved(tmp_path: Path) -> None:
    """After a compaction the old file has other rows: it is replaced, and a restart has nothing to build."""
    with running(tmp_path) as catalog:
        put(catalog.store, *range(100))
        catalog.check()
        (before,) = catalog.files()
        put(catalog.store, *range(30), shift=100)
        catalog.check()
        (after,) = catalog.files()
        assert after != before
    with running(tmp_path) as again:
        again.check()
        assert again.files() == [after]
        assert again.observer.graphs_built == []


def test_a_graph_that_grew_by_little_is_not_written_again(tmp_path: Path) -> None:
    """Its old file stays, and the next start adds the few rows again: less work than writing a file each time."""
    with opened(tmp_path, COSINE) as store:
        put(store, *range(110))
    with running(tmp_path) as catalog:
        catalog.check()
        before = catalog.files()
        put(catalog.store, *range(110, 123))
        catalog.check()
        assert catalog.observer.graphs_built == ["Shoes"] * 2
        assert catalog.files() == before
    with running(tmp_path) as catalog:
        catalog.check()
        assert catalog.observer.graphs_built == ["Shoes"]


def replaced_by_a_folder(path: Path) -> None:
    """Replace the file by a folder."""
    path.unlink()
    path.mkdir()


def swapped(path: Path) -> None:
    """Replace the file by another valid one."""
    other = next(each for each in sorted(path.parent.iterdir()) if each != path)
    shutil.copy(other, path)


@pytest.mark.parametrize(
    "damage",
    [
        *(pytest.param(flipped(share), id=f"flipped-{share:.2f}") for share in np.linspace(0, 1, 21)),
        *(pytest.param(cut(share), id=f"cut-{share:.2f}") for share in (0.0, 0.01, 0.5, 0.99, 0.9999)),
        pytest.param(lambda path: path.write_bytes(path.read_bytes() + b"\0"), id="longer"),
        pytest.param(lambda path: path.write_bytes(bytes(path.stat().st_size)), id="zeros"),
        pytest.param(Path.unlink, id="missing"),
        replaced_by_a_folder,
        swapped,
    ],
)
def test_damage(folder: Path, damage: Callable[[Path], None]) -> None:
    """A damaged or missing file is reported, results are correct, and a valid file replaces it."""
    with running(folder) as catalog:
        catalog.index.wait_until_idle()
        victim = catalog.files()[0]
    damage(victim)
    with running(folder) as catalog:
        catalog.check()
        ((category, name, reason),) = catalog.observer.unusable_files
        assert (category, name) == ("Shoes", victim.name)
        assert reason
        assert catalog.observer.maintenance_faults == []
    with running(folder) as catalog:
        catalog.check()
        assert (catalog.observer.unusable_files, catalog.observer.graphs_built) == ([], [])


def test_without_any_file(folder: Path) -> None:
    """Without any index file, graphs are rebuilt and saved, and results are correct."""
    shutil.rmtree(folder / "index")
    with running(folder) as catalog:
        catalog.check()
        assert catalog.observer.graphs_built
        assert catalog.files()


@pytest.mark.parametrize(
    "graphs", [replace(GRAPHS, m=6), replace(GRAPHS, ef_construction=30), replace(GRAPHS, library="hnswlib")]
)
def test_other_settings(folder: Path, graphs: HnswSettings) -> None:
    """Graphs that were built with other settings are rebuilt; a setting for searches rebuilds none."""
    with running(folder, graphs) as catalog:
        catalog.check()
        assert catalog.observer.unusable_files
        assert all(reason.startswith("it was built with") for _, _, reason in catalog.observer.unusable_files)
        assert catalog.observer.graphs_built
    with running(folder, replace(graphs, ef_search=35)) as catalog:
        catalog.check()
        assert (catalog.observer.unusable_files, catalog.observer.graphs_built) == ([], [])


def test_unknown_files_are_deleted(folder: Path) -> None:
    """Files that a crash left incomplete, or not in the manifest, are deleted at the next start."""
    with running(folder) as catalog:
        catalog.index.wait_until_idle()
        good = catalog.files()
    (folder / "index" / "0.graph.part").write_bytes(b"half")
    shutil.copy(good[0], folder / "index" / "1.graph")
    (folder / "index" / "lost+found").mkdir()  # not ours
    with running(folder) as catalog:
        assert catalog.files() == sorted([*good, folder / "index" / "lost+found"])
        assert catalog.observer.failed_files == []


def test_an_emptied_category(folder: Path) -> None:
    """Its files are deleted, also if it was emptied while no index was attached."""
    with running(folder) as catalog:
        for number in range(300):
            catalog.store.delete(f"p{number}")
        catalog.check("Hats")
        catalog.index.wait_until_idle()
        assert (catalog.files(), catalog.store.segments()) == ([], {})
        put(catalog.store, *range(300))
        catalog.check()
    with opened(folder, COSINE) as store:
        for number in range(300):
            store.delete(f"p{number}").result(60)
    with running(folder) as catalog:
        catalog.index.wait_until_idle()
        assert (catalog.files(), catalog.store.segments()) == ([], {})


def test_files_that_cannot_be_written(folder: Path) -> None:
    """Without a folder to write to, the error is reported and results are correct."""
    shutil.rmtree(folder / "index")
    (folder / "index").write_bytes(b"in the way")
    with running(folder) as catalog:
        catalog.check()
        assert catalog.index.kind("Shoes") is IndexKind.HNSW
        assert catalog.observer.failed_files
        assert all(isinstance(error, OSError) for _, error in catalog.observer.failed_files)
        assert catalog.store.segments() == {}


@pytest.mark.parametrize("library", ["faiss", "hnswlib"])
def test_golden_file(tmp_path: Path, library: str) -> None:
    """The contents of a file are those of its format version; a change needs another version."""
    with running(tmp_path, replace(GRAPHS, library=library)) as catalog:
        put(catalog.store, *range(100))
        catalog.index.wait_until_idle()
        (path,) = catalog.files()
    with path.open("rb") as file:
        kind = json.loads(file.readline())
        arrays = [np.lib.format.read_array(file) for _ in range(4)]
        begin = file.read(4)
    assert kind == {
        "format": 2,
        "library": library,
        "m": 8,
        "ef_construction": 40,
        "dim": DIM,
        "metric": "cosine",
    }
    assert [(array.dtype.str, array.shape) for array in arrays] == [
        ("<i8", (100,)),  # labels
        ("<i8", (100,)),  # the node of each
        ("<u8", (100,)),  # the hash of each node's vector
        ("|b1", (100,)),  # whether the graph does not find it
    ]
    assert begin == {"faiss": b"IHNs", "hnswlib": b'{"se'}[library]


def test_a_file_of_an_earlier_version(folder: Path) -> None:
    """A file of format 1, which was an archive of NumPy's, is reported, and its graph is built again."""
    with running(folder) as catalog:
        catalog.index.wait_until_idle()
    earlier = GOLDEN / "data-3" / "index"
    (old,) = earlier.iterdir()
    shutil.copy(old, folder / "index" / old.name)
    data = old.read_bytes()
    file = SegmentFile(old.name, len(data), hashlib.sha256(data).hexdigest())
    with opened(folder, COSINE) as store:
        store.replace_segments("Shoes", [file]).result(60)
    with running(folder) as catalog:
        catalog.check()
        assert catalog.observer.unusable_files == [("Shoes", old.name, "an earlier version wrote it")]
        assert catalog.observer.graphs_built
        assert old not in catalog.files()
