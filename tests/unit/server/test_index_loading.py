"""What a start does: categories are read when they are asked for, and what changes meanwhile is not lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from lookalike_server.domain.catalog import EmbeddedProduct, IndexChange, IndexKind, IndexRow, SegmentFile
from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.domain.protocols import RowSource
from lookalike_server.domain.search import IndexQuery as Asked
from lookalike_server.index.category_index import CategoryIndex
from lookalike_server.store.sqlite import Store
from support.fakes import RecordingObserver
from support.index_model import DIM, MakeIndex, vectors
from support.store_fixtures import MODEL, ignore, opened, product

COSINE = replace(MODEL, dim=DIM, metric=Metric.COSINE)
LOOKS = vectors(600, DIM, Metric.COSINE, seed=1)


class HeldSource(RowSource):
    """A store whose reading can be held after its first row."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reading = threading.Event()
        self.go_on = threading.Event()

    def row_counts(self) -> Mapping[str, int]:
        """As the store counts them."""
        return self._store.row_counts()

    def rows(self, category: str) -> Iterator[IndexRow]:
        """The store's rows; the reading has begun once the first was seen."""
        rows = self._store.rows(category)
        yield from islice(rows, 1)
        self.reading.set()
        assert self.go_on.wait(60)
        yield from rows

    def wait_until_applied(self) -> None:
        """As the store does."""
        self._store.wait_until_applied()

    def segments(self) -> Mapping[str, list[SegmentFile]]:
        """As the store has them."""
        return self._store.segments()

    def keep_segments(self, category: str, files: Sequence[SegmentFile]) -> Future[None]:
        """As the store does."""
        return self._store.keep_segments(category, files)


class BrokenSource(HeldSource):
    """A store that cannot be read for a while."""

    broken = True

    def rows(self, category: str) -> Iterator[IndexRow]:
        """The store's rows, or an error."""
        if self.broken:
            raise OSError("the disk does not answer")
        return self._store.rows(category)


def put(store: Store, product_id: str, look: Floats, category: str = "Shoes") -> None:
    """Store one product with one vector and wait until it is durable."""
    store.upsert(EmbeddedProduct(product(product_id, category), look[np.newaxis])).result(timeout=60)


def fill(folder: Path, category: str = "Shoes", first: int = 0, count: int = 300) -> None:
    """Make a catalog whose product pN looks like LOOKS[N]."""
    with opened(folder, COSINE) as store:
        for number in range(first, first + count):
            put(store, f"p{number}", LOOKS[number], category)


def nearest(index: CategoryIndex, look: Floats, category: str | None = "Shoes", k: int = 1) -> list[str]:
    """The nearest products by their ids."""
    (hits,) = index.search([Asked(look[np.newaxis], k)], category=category, exact=False)
    return [hit.product_id for hit in hits.hits]


def later(call: Callable[[], list[str]]) -> Future[list[str]]:
    """Call in a thread of its own."""
    future: Future[list[str]] = Future()
    threading.Thread(target=lambda: future.set_result(call()), daemon=True).start()
    return future


def test_loaded_at_start(tmp_path: Path, make_index: MakeIndex, observer: RecordingObserver) -> None:
    """A start reads all categories in the background, one that is asked for first, and builds what graphs they want."""
    fill(tmp_path)
    fill(tmp_path, "Hats", 300, 40)
    index = make_index(full_scan_threshold=100)
    with opened(tmp_path, COSINE, index.apply) as store:
        assert index.open(store, tmp_path / "index") == 340
        assert (index.holds("Shoes"), index.holds("Hats"), index.holds("Bags")) == (True, True, False)
        assert nearest(index, LOOKS[7]) == ["p7"]
        index.settle()
        assert sorted(observer.loaded) == ["Hats", "Shoes"]
        assert (index.kind("Shoes"), index.kind("Hats")) == (IndexKind.HNSW, IndexKind.FLAT)
        assert [nearest(index, LOOKS[number], None) for number in (7, 320)] == [["p7"], ["p320"]]
        index.close()


def test_an_empty_catalog(tmp_path: Path, make_index: MakeIndex) -> None:
    """A new catalog opens, has nothing, and takes what comes."""
    index = make_index(full_scan_threshold=100)
    with opened(tmp_path, COSINE, index.apply) as store:
        assert index.open(store, tmp_path / "index") == 0
        assert nearest(index, LOOKS[0], None) == []
        put(store, "p1", LOOKS[0])
        assert nearest(index, LOOKS[0]) == ["p1"]
        index.close()


def test_what_changes_while_a_category_is_read(tmp_path: Path, make_index: MakeIndex) -> None:
    """Rows that come, go, move, come back and are described during the reading are right after it."""
    fill(tmp_path, count=20)
    fill(tmp_path, "Hats", 20, 5)
    index = make_index(full_scan_threshold=1000)
    with opened(tmp_path, COSINE, index.apply) as store:
        source = HeldSource(store)
        index.open(source, tmp_path / "index")
        answer = later(lambda: nearest(index, LOOKS[0], "Shoes", k=100))
        assert source.reading.wait(60)
        store.delete("p3").result(60)
        put(store, "p4", LOOKS[104])
        put(store, "p5", LOOKS[5], "Hats")
        put(store, "p22", LOOKS[22])
        put(store, "new", LOOKS[105])
        put(store, "gone", LOOKS[106])
        store.delete("gone").result(60)
        put(store, "p6", LOOKS[6], "Hats")
        put(store, "p6", LOOKS[6])
        store.update_attributes("p7", {"color": "red"}, []).result(60)
        source.go_on.set()
        expected = {f"p{number}" for number in (*range(20), 22)} - {"p3", "p5"} | {"new"}
        assert set(answer.result(60)) == expected
        index.settle()
        assert len(nearest(index, LOOKS[0], "Shoes", k=100)) == len(expected)
        assert nearest(index, LOOKS[104]) == ["p4"]
        (hits,) = index.search([Asked(LOOKS[4:5], 1)], category="Shoes", exact=True)
        assert hits.hits[0].distance > 0.01  # nothing looks as p4 did
        assert set(nearest(index, LOOKS[0], "Hats", k=100)) == {"p20", "p21", "p23", "p24", "p5"}
        assert len(nearest(index, LOOKS[0], None, k=100)) == len(expected) + 5
        index.close()


def test_who_asks_is_served_first(tmp_path: Path, make_index: MakeIndex) -> None:
    """While a category that is asked for is being read, one that nobody asked for rests; and is there in the end."""
    fill(tmp_path, count=5)
    fill(tmp_path, "Hats", 5, 5)
    index = make_index(full_scan_threshold=1000)
    turns = index._turns  # nothing public shows who waits for whom
    rows = [IndexRow(number, f"p{number}", 0, LOOKS[number]) for number in range(3)]
    first = turns.taken(rows, first=True)
    assert next(first) is rows[0]
    second = later(lambda: [row.product_id for row in turns.taken(rows, first=False)])
    assert not second.done()
    assert list(first) == rows[1:]
    assert second.result(60) == ["p0", "p1", "p2"]
    with opened(tmp_path, COSINE, index.apply) as store:
        index.open(store, tmp_path / "index")
        assert nearest(index, LOOKS[7], "Hats") == ["p7"]
        index.settle()
        assert nearest(index, LOOKS[3], None) == ["p3"]
        index.close()


def test_a_category_emptied_before_it_is_read(tmp_path: Path, make_index: MakeIndex) -> None:
    """It is gone at once, and comes back with its next product."""
    fill(tmp_path, count=2)
    index = make_index(full_scan_threshold=1000)
    with opened(tmp_path, COSINE, index.apply) as store:
        source = HeldSource(store)
        index.open(source, tmp_path / "index")
        assert source.reading.wait(60)
        for product_id in ("p0", "p1"):
            store.delete(product_id).result(60)
        assert not index.holds("Shoes")
        put(store, "p1", LOOKS[1])
        assert index.holds("Shoes")
        source.go_on.set()
        assert nearest(index, LOOKS[1], k=5) == ["p1"]
        index.close()


def test_a_search_of_everything_while_products_move(tmp_path: Path, make_index: MakeIndex) -> None:
    """A product that moves between categories is in every answer over all of them, once."""
    index = make_index(full_scan_threshold=20)
    with opened(tmp_path, COSINE, index.apply) as store:
        index.open(store, tmp_path / "index")
        for number in range(40):
            put(store, f"p{number}", LOOKS[number], "Hats" if number % 2 else "Shoes")
        seen: list[list[str]] = []
        moved = threading.Event()

        def search() -> list[str]:
            while not moved.is_set():
                seen.append(nearest(index, LOOKS[0], None, k=100))
            return []

        searching = later(search)
        for turn in range(200):
            put(store, "p0", LOOKS[0], ("Hats", "Shoes", "Bags")[turn % 3])
        moved.set()
        searching.result(60)
        assert seen
        assert all(sorted(each) == sorted(f"p{number}" for number in range(40)) for each in seen)
        index.close()


def test_a_store_that_cannot_be_read(tmp_path: Path, make_index: MakeIndex, observer: RecordingObserver) -> None:
    """It is reported, who asks hears of it, and once it can be read again answers are right."""
    fill(tmp_path, count=3)
    index = make_index(full_scan_threshold=1000)
    with opened(tmp_path, COSINE, index.apply) as store:
        source = BrokenSource(store)
        index.open(source, tmp_path / "index")
        index.settle()
        assert [(category, str(error)) for category, error in observer.maintenance_faults] == [
            ("Shoes", "the disk does not answer")
        ]
        with pytest.raises(OSError, match="does not answer"):
            nearest(index, LOOKS[0])
        put(store, "p9", LOOKS[9])
        source.broken = False
        assert [nearest(index, LOOKS[number]) for number in (0, 9)] == [["p0"], ["p9"]]
        index.close()


def test_changes_that_no_index_hears_of(tmp_path: Path, make_index: MakeIndex) -> None:
    """What was written while no index listened is there at the next start."""
    with opened(tmp_path, COSINE, ignore) as store:
        put(store, "p1", LOOKS[1])
    changes: list[IndexChange] = []
    index = make_index(full_scan_threshold=10)
    with opened(tmp_path, COSINE, changes.append) as store:
        index.open(store, tmp_path / "index")
        assert nearest(index, LOOKS[1]) == ["p1"]
        index.close()
    assert changes == [IndexChange()]
