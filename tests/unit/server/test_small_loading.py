"""Loading small categories at a start: many at once, a searched one alone, and beside changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lookalike_server.domain.events import CategoriesLoaded
from lookalike_server.domain.filters import OneOf
from lookalike_server.domain.search import IndexQuery
from support.fakes import RecordingObserver
from support.index_model import MakeIndex
from support.index_sources import COSINE, VECTORS, BrokenSource, HeldBatches, in_thread, nearest, put
from support.store_fixtures import opened

COUNT = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a catalog whose product pN has the vector VECTORS[N] and category N."""
    with opened(tmp_path, COSINE) as store:
        for number in range(COUNT):
            put(store, f"p{number}", VECTORS[number], f"category {number}")
    return tmp_path


def test_many_are_read_at_once(folder: Path, make_index: MakeIndex, observer: RecordingObserver) -> None:
    """All small categories are read together, reported once, and are in one matrix."""
    index = make_index(full_scan_threshold=10)
    with opened(folder, COSINE, index.apply) as store:
        assert index.open(store, folder / "index") == COUNT
        index.wait_until_idle()
        (loaded,) = observer.of(CategoriesLoaded)
        assert (sorted(loaded.categories), loaded.remaining) == (sorted(f"category {n}" for n in range(COUNT)), 0)
        assert [shard.row_count for shard in index.small_categories.shards] == [COUNT]
        assert all(
            nearest(index, VECTORS[number], f"category {number}", 5) == [f"p{number}"] for number in range(COUNT)
        )
        index.close()


def test_a_searched_category_waits_for_no_other(folder: Path, make_index: MakeIndex) -> None:
    """While the others are being read, one that is searched is read alone; in the end each product is there once."""
    index = make_index(full_scan_threshold=10)
    with opened(folder, COSINE, index.apply) as store:
        source = HeldBatches(store)
        index.open(source, folder / "index")
        assert source.reading.wait(60)
        assert nearest(index, VECTORS[7], "category 7") == ["p7"]
        assert not index.is_cheap("category 8")
        assert index.is_cheap("category 7")
        source.resume.set()
        index.wait_until_idle()
        assert sorted(nearest(index, VECTORS[0], None, 2 * COUNT)) == sorted(f"p{number}" for number in range(COUNT))
        index.close()


@pytest.mark.parametrize("waiting", [None, "category 1"], ids=["everything", "one category"])
def test_changes_while_many_are_read(folder: Path, make_index: MakeIndex, waiting: str | None) -> None:
    """Products that are added, deleted, moved, replaced and updated during the read are found as they are after it."""
    index = make_index(full_scan_threshold=10)
    with opened(folder, COSINE, index.apply) as store:
        source = HeldBatches(store)
        index.open(source, folder / "index")
        assert source.reading.wait(60)
        result = in_thread(lambda: nearest(index, VECTORS[1], waiting, 100))
        store.delete("p0").result(60)
        put(store, "p2", VECTORS[2], "category 3")
        put(store, "p3", VECTORS[103], "category 3")
        put(store, "p4", VECTORS[4], "category of its own")
        put(store, "p5", VECTORS[5], "category 6")
        put(store, "p5", VECTORS[5], "category 5")
        put(store, "gone", VECTORS[300], "category 8")
        store.delete("gone").result(60)
        store.update_attributes("p9", {"color": "red"}, []).result(60)
        put(store, "late", VECTORS[301], "category 8")
        assert [index.holds(f"category {number}") for number in (0, 1, 2, 4)] == [False, True, False, False]
        source.resume.set()
        expected = {f"p{number}" for number in range(1, COUNT)} | {"late"}
        if waiting is None:
            assert set(result.result(60)) == expected
        else:
            assert result.result(60) == ["p1"]
        index.wait_until_idle()
        found = nearest(index, VECTORS[0], None, 100)
        assert (len(found), set(found)) == (len(expected), expected)
        by_category = [sorted(nearest(index, VECTORS[0], f"category {number}", 9)) for number in range(10)]
        assert by_category == [[], ["p1"], [], ["p2", "p3"], [], ["p5"], ["p6"], ["p7"], ["late", "p8"], ["p9"]]
        assert nearest(index, VECTORS[103], "category 3") == ["p3"]
        (red,) = index.search(
            [IndexQuery(VECTORS[:1], 9)], category=None, exact=False, conditions=[OneOf("color", frozenset({"red"}))]
        )
        assert [hit.product_id for hit in red.hits] == ["p9"]
        index.close()


def test_a_category_that_grows_before_it_is_read(folder: Path, make_index: MakeIndex) -> None:
    """One that is no longer small when the read ends becomes a partition, with all its products once."""
    index = make_index(full_scan_threshold=10)
    with opened(folder, COSINE, index.apply) as store:
        source = HeldBatches(store)
        index.open(source, folder / "index")
        assert source.reading.wait(60)
        for number in range(100, 120):
            put(store, f"p{number}", VECTORS[number], "category 7")
        source.resume.set()
        assert set(nearest(index, VECTORS[0], "category 7", 100)) == {"p7", *(f"p{n}" for n in range(100, 120))}
        index.wait_until_idle()
        assert list(index.partitions) == ["category 7"]
        assert len(nearest(index, VECTORS[0], None, 100)) == COUNT + 20
        index.close()


def test_a_store_that_cannot_be_read(folder: Path, make_index: MakeIndex, observer: RecordingObserver) -> None:
    """The background reports once that it cannot read them, searches raise the error, and later ones read again."""
    index = make_index(full_scan_threshold=10)
    with opened(folder, COSINE, index.apply) as store:
        source = BrokenSource(store)
        index.open(source, folder / "index")
        index.wait_until_idle()
        assert [str(error) for _, error in observer.maintenance_faults] == ["the disk does not answer"]
        for category in ("category 1", None):
            with pytest.raises(OSError, match="does not answer"):
                nearest(index, VECTORS[1], category)
        source.broken = False
        assert nearest(index, VECTORS[1], "category 1") == ["p1"]
        assert len(nearest(index, VECTORS[1], None, 100)) == COUNT
        index.close()


def test_a_restart_after_a_category_has_shrunk(tmp_path: Path, make_index: MakeIndex) -> None:
    """A category whose graph is on disk is no small one, however few products it has left."""
    with opened(tmp_path, COSINE) as store:
        for number in range(30):
            put(store, f"p{number}", VECTORS[number], "c")
    index = make_index(full_scan_threshold=20)
    with opened(tmp_path, COSINE, index.apply) as store:
        index.open(store, tmp_path / "index")
        index.wait_until_idle()
        index.close()
        assert store.segments()["c"]
    with opened(tmp_path, COSINE) as store:
        for number in range(2, 30):
            store.delete(f"p{number}").result(60)
    index = make_index(full_scan_threshold=20)
    with opened(tmp_path, COSINE, index.apply) as store:
        index.open(store, tmp_path / "index")
        index.wait_until_idle()
        assert set(nearest(index, VECTORS[0], "c", 9)) == {"p0", "p1"}
        assert list(index.partitions) == ["c"]
        index.close()
