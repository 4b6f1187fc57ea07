"""Loading at a start: categories are read when they are searched, and changes made meanwhile are not lost."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lookalike_server.domain.catalog import IndexChange, IndexKind, IndexRow
from lookalike_server.domain.search import IndexQuery
from lookalike_server.index.lazy_loading import ReadPriority
from support.fakes import RecordingObserver
from support.index_model import MakeIndex
from support.index_sources import COSINE, VECTORS, BrokenSource, HeldSource, fill, in_thread, nearest, put
from support.store_fixtures import ignore, opened


def test_loaded_at_start(tmp_path: Path, make_index: MakeIndex, observer: RecordingObserver) -> None:
    """A start reads all categories in the background, a searched one first, and builds the graphs they need."""
    fill(tmp_path)
    fill(tmp_path, "Hats", 300, 40)
    index = make_index(full_scan_threshold=100)
    with opened(tmp_path, COSINE, index.apply) as store:
        assert index.open(store, tmp_path / "index") == 340
        assert (index.holds("Shoes"), index.holds("Hats"), index.holds("Bags")) == (True, True, False)
        assert nearest(index, VECTORS[7]) == ["p7"]
        index.wait_until_idle()
        assert sorted(observer.loaded) == ["Hats", "Shoes"]
        assert (index.kind("Shoes"), index.kind("Hats")) == (IndexKind.HNSW, IndexKind.FLAT)
        assert [nearest(index, VECTORS[number], None) for number in (7, 320)] == [["p7"], ["p320"]]
        index.close()


def test_an_empty_catalog(tmp_path: Path, make_index: MakeIndex) -> None:
    """A new catalog is empty and can be written."""
    index = make_index(full_scan_threshold=100)
    with opened(tmp_path, COSINE, index.apply) as store:
        assert index.open(store, tmp_path / "index") == 0
        assert nearest(index, VECTORS[0], None) == []
        put(store, "p1", VECTORS[0])
        assert nearest(index, VECTORS[0]) == ["p1"]
        index.close()


@pytest.mark.parametrize("full_scan_threshold", [4, 1000], ids=["large", "small"])
def test_changes_while_a_category_is_read(tmp_path: Path, make_index: MakeIndex, full_scan_threshold: int) -> None:
    """Rows that are added, removed, moved, restored and updated during the read are correct after it."""
    fill(tmp_path, count=20)
    fill(tmp_path, "Hats", 20, 5)
    index = make_index(full_scan_threshold)
    with opened(tmp_path, COSINE, index.apply) as store:
        source = HeldSource(store)
        index.open(source, tmp_path / "index")
        result = in_thread(lambda: nearest(index, VECTORS[0], "Shoes", k=100))
        assert source.reading.wait(60)
        store.delete("p3").result(60)
        put(store, "p4", VECTORS[104])
        put(store, "p5", VECTORS[5], "Hats")
        put(store, "p22", VECTORS[22])
        put(store, "new", VECTORS[105])
        put(store, "gone", VECTORS[106])
        store.delete("gone").result(60)
        put(store, "p6", VECTORS[6], "Hats")
        put(store, "p6", VECTORS[6])
        store.update_attributes("p7", {"color": "red"}, []).result(60)
        source.resume.set()
        expected = {f"p{number}" for number in (*range(20), 22)} - {"p3", "p5"} | {"new"}
        assert set(result.result(60)) == expected
        index.wait_until_idle()
        assert len(nearest(index, VECTORS[0], "Shoes", k=100)) == len(expected)
        assert nearest(index, VECTORS[104]) == ["p4"]
        (nearest_hits,) = index.search([IndexQuery(VECTORS[4:5], 1)], category="Shoes", exact=True)
        assert nearest_hits.hits[0].distance > 0.01  # p4's former vector is gone
        assert set(nearest(index, VECTORS[0], "Hats", k=100)) == {"p20", "p21", "p23", "p24", "p5"}
        assert len(nearest(index, VECTORS[0], None, k=100)) == len(expected) + 5
        index.close()


def test_searched_categories_are_read_first() -> None:
    """While an urgent read is running a background read pauses, and it finishes afterwards."""
    priority = ReadPriority()
    rows = [IndexRow(number, f"p{number}", 0, VECTORS[number]) for number in range(3)]
    urgent = priority.pace(rows, urgent=True)
    assert next(urgent) is rows[0]
    background = in_thread(lambda: [row.product_id for row in priority.pace(rows, urgent=False)])
    assert not background.done()
    assert list(urgent) == rows[1:]
    assert background.result(60) == ["p0", "p1", "p2"]


def test_a_search_while_categories_are_read(tmp_path: Path, make_index: MakeIndex) -> None:
    """A category is searched as soon as it is read itself; in the end all of them are."""
    fill(tmp_path, count=5)
    fill(tmp_path, "Hats", 5, 5)
    index = make_index(full_scan_threshold=1000)
    with opened(tmp_path, COSINE, index.apply) as store:
        index.open(store, tmp_path / "index")
        assert nearest(index, VECTORS[7], "Hats") == ["p7"]
        index.wait_until_idle()
        assert nearest(index, VECTORS[3], None) == ["p3"]
        index.close()


def test_a_category_emptied_before_it_is_read(tmp_path: Path, make_index: MakeIndex) -> None:
    """It is gone at once, and exists again with its next product."""
    fill(tmp_path, count=2)
    index = make_index(full_scan_threshold=1000)
    with opened(tmp_path, COSINE, index.apply) as store:
        source = HeldSource(store)
        index.open(source, tmp_path / "index")
        assert source.reading.wait(60)
        for product_id in ("p0", "p1"):
            store.delete(product_id).result(60)
        assert not index.holds("Shoes")
        put(store, "p1", VECTORS[1])
        assert index.holds("Shoes")
        source.resume.set()
        assert nearest(index, VECTORS[1], k=5) == ["p1"]
        index.close()


@pytest.mark.slow
def test_a_search_of_everything_while_products_move(tmp_path: Path, make_index: MakeIndex) -> None:
    """A product that moves between categories is once in every result over all categories."""
    index = make_index(full_scan_threshold=20)
    with opened(tmp_path, COSINE, index.apply) as store:
        index.open(store, tmp_path / "index")
        for number in range(40):
            put(store, f"p{number}", VECTORS[number], "Hats" if number % 2 else "Shoes")
        seen: list[list[str]] = []
        moved = threading.Event()

        def search() -> list[str]:
            while not moved.is_set():
                seen.append(nearest(index, VECTORS[0], None, k=100))
            return []

        searching = in_thread(search)
        for turn in range(200):
            put(store, "p0", VECTORS[0], ("Hats", "Shoes", "Bags")[turn % 3])
        moved.set()
        searching.result(60)
        assert seen
        assert all(sorted(each) == sorted(f"p{number}" for number in range(40)) for each in seen)
        index.close()


def test_a_store_that_cannot_be_read(tmp_path: Path, make_index: MakeIndex, observer: RecordingObserver) -> None:
    """The error is reported and raised by searches, and once the store can be read, results are correct."""
    fill(tmp_path, count=3)
    index = make_index(full_scan_threshold=1000)
    with opened(tmp_path, COSINE, index.apply) as store:
        source = BrokenSource(store)
        index.open(source, tmp_path / "index")
        index.wait_until_idle()
        assert [(category, str(error)) for category, error in observer.maintenance_faults] == [
            ("Shoes", "the disk does not answer")
        ]
        with pytest.raises(OSError, match="does not answer"):
            nearest(index, VECTORS[0])
        put(store, "p9", VECTORS[9])
        source.broken = False
        assert [nearest(index, VECTORS[number]) for number in (0, 9)] == [["p0"], ["p9"]]
        index.close()


def test_changes_without_an_index(tmp_path: Path, make_index: MakeIndex) -> None:
    """What was written while no index was attached is found at the next start."""
    with opened(tmp_path, COSINE, ignore) as store:
        put(store, "p1", VECTORS[1])
    changes: list[IndexChange] = []
    index = make_index(full_scan_threshold=10)
    with opened(tmp_path, COSINE, changes.append) as store:
        index.open(store, tmp_path / "index")
        assert nearest(index, VECTORS[1]) == ["p1"]
        index.close()
    assert changes == [IndexChange()] * len(changes)
