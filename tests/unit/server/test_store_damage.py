"""What a store notices of a damaged or lost file, by itself and by its check."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lookalike_server.domain import events
from lookalike_server.domain.catalog import EmbeddedProduct
from lookalike_server.domain.errors import Code, LookalikeError, ServerError
from lookalike_server.store.catalog_check import CatalogCheck
from lookalike_server.store.catalog_store import Store
from lookalike_server.store.checksums import checksum
from lookalike_server.store.maintenance import verify
from lookalike_server.store.migrations import MIGRATIONS
from lookalike_server.store.sqlite import FILE
from support.fakes import RecordingObserver
from support.sqlite_pages import TABLES, flip_bit, leaves, zero_page
from support.store_fixtures import DIM, MODEL, embedded, ignore, opened, product, put, vectors

COUNT = 600
WIDE = replace(MODEL, dim=1024)


class Excluding:
    """Stands in for an index: keeps what it is to leave out."""

    def __init__(self) -> None:
        self.excluded: list[tuple[str, int]] = []

    def wait_for_searches(self) -> None:
        """Return at once: there are none."""

    def exclude(self, category: str, label: int) -> None:
        """Keep it."""
        self.excluded.append((category, label))


def check(store: Store) -> tuple[list[events.Event], list[tuple[str, int]]]:
    """Check a store to the end; return what was reported, and what was left out."""
    observer, index = RecordingObserver(), Excluding()
    running = CatalogCheck(store, index, observer)
    running.start()
    running.join()
    return observer.events, index.excluded


def fill(folder: Path) -> None:
    """Store 600 products."""
    with opened(folder) as store:
        store.upsert_all([(embedded(f"p{number}", float(number)), None) for number in range(COUNT)]).result(60)


@pytest.mark.parametrize("size", [0, 1, 4 * DIM, 4096, 8192, 10_000])
def test_every_bit_counts(size: int) -> None:
    """A checksum fits into 32 bits, is the same every time, and is another one whichever bit is flipped."""
    data = np.random.default_rng(size).bytes(size)
    assert checksum(data) == checksum(bytes(bytearray(data)))
    assert 0 <= checksum(data) < 1 << 32
    for position in range(0, 8 * size, 997):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        assert checksum(bytes(flipped)) != checksum(data)


@pytest.mark.parametrize("tree", TABLES)
def test_the_first_touch(tmp_path: Path, tree: str) -> None:
    """The first read that comes upon damage reports it once and raises words that help; then nothing is stored."""
    fill(tmp_path)
    zero_page(tmp_path, leaves(tmp_path, TABLES[tree])[-1])
    reported: list[Exception] = []
    store = Store(tmp_path, MODEL, ignore, on_damage=reported.append)
    try:

        def read() -> None:
            store.row_counts()
            store.products([f"p{number}" for number in range(COUNT)])
            list(store.rows_with(store.labels("Shoes")))
            list(store.attributes("Shoes"))

        with pytest.raises(ServerError):
            read()
        with pytest.raises(ServerError) as caught:
            read()
        assert caught.value.public.code is Code.DATA_LOSS
        assert "`lookalike-server verify`" in caught.value.public.message
        assert "backup" in caught.value.public.message
        with pytest.raises(ServerError, match="nothing is stored"):
            put(store, "new")
        with pytest.raises(ServerError, match="nothing is stored"):
            store.delete("p0")
        assert len(reported) == 1
    finally:
        store.close()


def test_a_write_that_comes_upon_damage(tmp_path: Path) -> None:
    """A write that comes upon damage fails with the same words, and reports it."""
    fill(tmp_path)
    for page in leaves(tmp_path, TABLES["products"]):
        zero_page(tmp_path, page)
    reported: list[Exception] = []
    store = Store(tmp_path, MODEL, ignore, on_damage=reported.append)
    try:
        error = store.upsert(embedded("p7", 1.0)).exception(60)
        assert isinstance(error, ServerError)
        assert error.public.code is Code.DATA_LOSS
        assert len(reported) == 1
    finally:
        store.close()


@pytest.mark.parametrize("page", [0, 1])
def test_a_first_page_that_is_damaged(tmp_path: Path, page: int) -> None:
    """A file whose header or schema is gone is rejected at the start, with the command and the remedy."""
    fill(tmp_path)
    with (tmp_path / FILE).open("r+b") as file:
        file.seek(100 if page else 0)
        file.write(bytes(3000))
    with pytest.raises(LookalikeError, match=r"verify.*backup") as caught:
        Store(tmp_path, MODEL, ignore)
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_attributes_that_are_no_json(tmp_path: Path) -> None:
    """Attributes that a disk has damaged are an error of the same kind, and found by the check."""
    with opened(tmp_path) as store:
        put(store, "p0", color="turquoise")
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes().replace(b'"turquoise"', b'"turquois"x'))
    with opened(tmp_path) as store:
        with pytest.raises(ServerError, match="'p0' are not JSON"):
            store.products(["p0"])
        assert not check(store)[0]
        with pytest.raises(ServerError, match="nothing is stored"):
            put(store, "new")


def test_checksums_of_an_older_catalog(tmp_path: Path) -> None:
    """Vectors that version 4 stored have no checksum, are read as they are, and get one by the check after a start."""
    fill(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE)) as file:
        file.executescript(
            "ALTER TABLE embeddings DROP COLUMN crc32; ALTER TABLE reembedded DROP COLUMN crc32;"
            f"PRAGMA user_version = {len(MIGRATIONS) - 1}"
        )
    assert list(verify(tmp_path)) == []
    missing = "SELECT count(*) FROM embeddings WHERE crc32 IS NULL"
    with opened(tmp_path) as store:
        with closing(sqlite3.connect(tmp_path / FILE)) as file:
            assert file.execute(missing).fetchone() == (COUNT,)
            np.testing.assert_array_equal(store.vectors("p7"), vectors(7.0))
            assert check(store) == ([events.CatalogChecked(COUNT, 0)], [])
            assert file.execute(missing).fetchone() == (0,)
        np.testing.assert_array_equal(store.vectors("p7"), vectors(7.0))
    flip_bit(tmp_path, vectors(7.0).tobytes(), at=1)
    (problem,) = verify(tmp_path)
    assert problem == "embedding 0 of 'p7' is damaged: its checksum differs"
    with opened(tmp_path) as store:
        found, excluded = check(store)
        assert found == [events.VectorDamaged("p7", 0), events.CatalogChecked(COUNT, 1)]
        assert [category for category, _ in excluded] == ["Shoes"]
        assert np.isnan(store.vectors("p7")).all()


def test_a_check_that_is_stopped(tmp_path: Path) -> None:
    """A store closes while it is checked; the check says nothing more."""
    fill(tmp_path)
    observer = RecordingObserver()
    with opened(tmp_path) as store:
        running = CatalogCheck(store, Excluding(), observer)
        running.start()
        running.close()
    assert all(isinstance(event, events.CatalogChecked) for event in observer.events)


class Searching(Excluding):
    """Stands in for an index that is being searched until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0
        self.waiting = threading.Event()
        self.idle = threading.Event()

    def wait_for_searches(self) -> None:
        """Wait, as long as a search takes."""
        self.waits += 1
        self.waiting.set()
        assert self.idle.wait(60)


def test_searches_go_first(tmp_path: Path) -> None:
    """The check waits for searches before each piece, and reads no vector while one runs."""
    with opened(tmp_path, WIDE) as store:
        drawn = np.ones((COUNT, 1, WIDE.dim), dtype=np.float32)
        store.upsert_all(
            [(EmbeddedProduct(product(f"p{number}"), each), None) for number, each in enumerate(drawn)]
        ).result(60)
        observer, index = RecordingObserver(), Searching()
        running = CatalogCheck(store, index, observer)
        running.start()
        assert index.waiting.wait(60)
        assert observer.events == []
        index.idle.set()
        running.join()
        assert observer.events == [events.CatalogChecked(COUNT, 0)]
        assert index.waits > COUNT * 4 * WIDE.dim // (512 << 10)


LEFT = {"a graph": "index/0123.graph", "an older graph": "index/0123.npz", "a write-ahead log": f"{FILE}-wal"}


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("state", ["empty", "missing"])
def test_a_lost_file(tmp_path: Path, left: str, state: str) -> None:
    """A file that is empty or missing beside what a catalog left is no new catalog: neither it nor the rest changes."""
    (tmp_path / "index").mkdir()
    (tmp_path / LEFT[left]).write_bytes(b"left")
    if state == "empty":
        (tmp_path / FILE).touch()
    with pytest.raises(LookalikeError, match=f"catalog.sqlite is {state}, but .* restore a backup") as caught:
        Store(tmp_path, MODEL, ignore)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert (tmp_path / LEFT[left]).read_bytes() == b"left"
    assert (tmp_path / FILE).exists() is (state == "empty")
    assert list(verify(tmp_path)) == [caught.value.message]


def test_a_link_to_a_disk_that_is_not_there(tmp_path: Path) -> None:
    """A link that leads nowhere is no new catalog either."""
    (tmp_path / FILE).symlink_to(tmp_path / "disk" / FILE)
    with pytest.raises(LookalikeError, match="does not exist; is its disk mounted"):
        Store(tmp_path, MODEL, ignore)
    assert not (tmp_path / "disk").exists()


def test_an_empty_file_alone(tmp_path: Path) -> None:
    """An empty file beside nothing, as a server leaves that was killed at its very first start, is a new catalog."""
    (tmp_path / FILE).touch()
    (tmp_path / "index").mkdir()
    with opened(tmp_path) as store:
        put(store, "p1")
    assert list(verify(tmp_path)) == []
