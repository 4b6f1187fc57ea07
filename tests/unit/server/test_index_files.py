"""Graphs on disk: they save a start the building, and nothing that happens to them makes an answer wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from lookalike_server.domain.catalog import EmbeddedProduct, IndexKind
from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.domain.search import IndexQuery
from lookalike_server.index.category_index import CategoryIndex
from lookalike_server.index.hnsw import HnswSettings
from lookalike_server.index.segment import PartitionSettings
from lookalike_server.store.sqlite import Store
from support.fakes import RecordingObserver
from support.index_model import vectors
from support.paths import GOLDEN
from support.store_fixtures import MODEL, opened, product

DIM = 32
COSINE = replace(MODEL, dim=DIM, metric=Metric.COSINE)
GRAPHS = HnswSettings(m=8, ef_construction=40, ef_search=40, numbers=8)


def looks(count: int) -> Floats:
    """Embeddings of eight dimensions, so that graphs have a projection: float32 [count, DIM]."""
    rows = vectors(count, 8, Metric.COSINE, seed=1)
    return np.concatenate([rows, np.zeros((count, DIM - 8), dtype=np.float32)], axis=1)


LOOKS = looks(400)


def put(store: Store, *numbers: int, category: str = "Shoes", look: int = 0) -> None:
    """Store products pN that look like LOOKS[N + look]."""
    waiting = [
        store.upsert(EmbeddedProduct(product(f"p{number}", category), LOOKS[number + look][np.newaxis]))
        for number in numbers
    ]
    for each in waiting:
        each.result(60)


@dataclass
class Catalog:
    """A store with an index over it, and what the index reported."""

    folder: Path
    store: Store
    index: CategoryIndex
    observer: RecordingObserver

    def files(self) -> list[Path]:
        """What is in the folder of the index."""
        return sorted((self.folder / "index").iterdir())

    def check(self, category: str = "Shoes") -> None:
        """Compare answers with brute force over the store's vectors."""
        self.index.settle()
        kept = [(row.product_id, row.vector) for row in self.store.rows(category)]
        rows = np.array([vector for _, vector in kept])
        for look in LOOKS[::40]:
            (hits,) = self.index.search([IndexQuery(look[np.newaxis], 5)], category=category, exact=False)
            right = np.sort(1.0 - rows @ look)[:5]
            np.testing.assert_allclose([hit.distance for hit in hits.hits], right, atol=1e-5)


@contextmanager
def running(folder: Path, graphs: HnswSettings = GRAPHS) -> Iterator[Catalog]:
    """A start, and at the end of the block a stop."""
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
    """A copy of it that a test may spoil."""
    shutil.copytree(made, tmp_path / "data")
    return tmp_path / "data"


def test_a_start_builds_no_graph_again(folder: Path) -> None:
    """The graphs of a start are those that were built before, over the same rows."""
    with running(folder) as catalog:
        before = catalog.files()
        catalog.check()
        assert catalog.index.kind("Shoes") is IndexKind.HNSW
        assert (catalog.observer.graphs_built, catalog.observer.unusable_files) == ([], [])
        assert catalog.files() == before
        catalog.check("Hats")


def test_rows_that_changed_since_a_graph_was_kept(folder: Path) -> None:
    """What died or came after a graph was kept is known at the next start, whether or not a graph was kept since."""
    with running(folder) as catalog:
        catalog.index.settle()
        for number in range(0, 40, 2):
            catalog.store.delete(f"p{number}").result(60)
        put(catalog.store, 1, 3, 5, look=50)
        put(catalog.store, 7, 9, category="Hats")
        files = catalog.files()
        catalog.check()
    with running(folder) as catalog:
        catalog.check()
        catalog.check("Hats")
        assert catalog.files() == files
        assert catalog.observer.graphs_built == []
        # With more dead the category is compacted, and that is what the next start finds.
        for number in range(40, 140):
            catalog.store.delete(f"p{number}").result(60)
        catalog.check()
        assert catalog.observer.graphs_built
        assert not set(files) & set(catalog.files())
    with running(folder) as catalog:
        catalog.check()
        assert catalog.observer.graphs_built == []


def test_the_last_graph_grows(tmp_path: Path) -> None:
    """Rows that come later join the last graph while it has room; its new file takes the old one's place."""
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


def test_a_graph_built_anew_is_kept_though_it_has_as_many_rows(tmp_path: Path) -> None:
    """IdempotencyKey the dead are left out the old file is of other rows: it is replaced, and a start has nothing to do."""
    with running(tmp_path) as catalog:
        put(catalog.store, *range(100))
        catalog.check()
        (before,) = catalog.files()
        put(catalog.store, *range(30), look=100)
        catalog.check()
        (after,) = catalog.files()
        assert after != before
    with running(tmp_path) as again:
        again.check()
        assert again.files() == [after]
        assert again.observer.graphs_built == []


def test_a_graph_that_grew_by_little_is_not_written_again(tmp_path: Path) -> None:
    """Its old file stays, and the next start has the few rows join again: less work than a file for every few."""
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


def flipped(share: float) -> Callable[[Path], None]:
    """Damage that turns one bit over, so far into the file."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(share * (len(data) - 1))] ^= 0x10
        path.write_bytes(data)

    return damage


def cut(share: float) -> Callable[[Path], None]:
    """Damage that leaves this share of the file."""

    def damage(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return damage


def made_a_folder(path: Path) -> None:
    """Put a folder in the file's place."""
    path.unlink()
    path.mkdir()


def swapped(path: Path) -> None:
    """Put another good file in its place."""
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
        made_a_folder,
        swapped,
    ],
)
def test_damage(folder: Path, damage: Callable[[Path], None]) -> None:
    """A damaged or missing file is named and told of, answers are right, and a good one takes its place."""
    with running(folder) as catalog:
        catalog.index.settle()
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
    """Losing every file of the index loses nothing but the time to build."""
    shutil.rmtree(folder / "index")
    with running(folder) as catalog:
        catalog.check()
        assert catalog.observer.graphs_built
        assert catalog.files()


@pytest.mark.parametrize(
    "graphs", [replace(GRAPHS, m=6), replace(GRAPHS, ef_construction=30), replace(GRAPHS, numbers=0)]
)
def test_other_settings(folder: Path, graphs: HnswSettings) -> None:
    """Graphs that were built with other settings are rebuilt; a setting of the search alone changes none."""
    with running(folder, graphs) as catalog:
        catalog.check()
        assert {reason for _, _, reason in catalog.observer.unusable_files} == {"it was built with other settings"}
        assert catalog.observer.graphs_built
    with running(folder, replace(graphs, ef_search=35)) as catalog:
        catalog.check()
        assert (catalog.observer.unusable_files, catalog.observer.graphs_built) == ([], [])


def test_what_nobody_vouches_for_is_swept_away(folder: Path) -> None:
    """Files that a crash left half written or not yet named are gone after the next start."""
    with running(folder) as catalog:
        catalog.index.settle()
        good = catalog.files()
    (folder / "index" / "0.npz.part").write_bytes(b"half")
    shutil.copy(good[0], folder / "index" / "1.npz")
    (folder / "index" / "lost+found").mkdir()  # not ours
    with running(folder) as catalog:
        assert catalog.files() == sorted([*good, folder / "index" / "lost+found"])
        assert catalog.observer.failed_files == []


def test_a_category_that_is_gone(folder: Path) -> None:
    """Its files go with it; also where it went while no index listened."""
    with running(folder) as catalog:
        for number in range(300):
            catalog.store.delete(f"p{number}")
        catalog.check("Hats")
        catalog.index.settle()
        assert (catalog.files(), catalog.store.segments()) == ([], {})
        put(catalog.store, *range(300))
        catalog.check()
    with opened(folder, COSINE) as store:
        for number in range(300):
            store.delete(f"p{number}").result(60)
    with running(folder) as catalog:
        catalog.index.settle()
        assert (catalog.files(), catalog.store.segments()) == ([], {})


def test_where_files_cannot_be_written(folder: Path) -> None:
    """Without a folder to write to searches are right all the same, and it is reported."""
    shutil.rmtree(folder / "index")
    (folder / "index").write_bytes(b"in the way")
    with running(folder) as catalog:
        catalog.check()
        assert catalog.index.kind("Shoes") is IndexKind.HNSW
        assert catalog.observer.failed_files
        assert all(isinstance(error, OSError) for _, error in catalog.observer.failed_files)
        assert catalog.store.segments() == {}


def test_golden_file(folder: Path) -> None:
    """A file holds what it always held; a change of it needs another format number."""
    with running(folder) as catalog:
        catalog.index.settle()
        path = catalog.files()[0]
    with np.load(path, allow_pickle=False) as arrays:
        found = "".join(
            f"{name} {arrays[name].dtype.kind}{arrays[name].dtype.itemsize if arrays[name].dtype.kind != 'U' else ''}"
            f" {arrays[name].ndim}\n"
            for name in arrays
        )
        assert int(arrays["format"]) == 1
    assert found == (GOLDEN / "segment-1.txt").read_text(encoding="utf-8")
