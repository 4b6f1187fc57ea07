"""Rows in mapped files: what they leave behind, what a full disk does to them, and whether they are in memory."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from crash.disks import fill, memory
from lookalike_server.domain.catalog import IndexKind
from lookalike_server.domain.events import RowFileFailed
from lookalike_server.domain.inference import Floats, Metric
from lookalike_server.domain.search import IndexQuery
from lookalike_server.index.row_blocks import MIN_FILE_BYTES, RowBlocks, is_mapped, missing_pages, run_later
from lookalike_server.index.row_residency import PERIOD, Residency
from lookalike_server.index.row_storage import GrowingMatrix
from support.fakes import RecordingObserver
from support.index_model import MakeIndex, Shop, one_image_each, vectors
from support.paths import ROOT
from support.store_fixtures import opened

DIM = 1024
ROWS = MIN_FILE_BYTES // (4 * DIM)
"""The rows of the smallest block that is a file."""


def unmapped() -> None:
    """Wait until everything that was given up so far is unmapped."""
    gc.collect()
    done = threading.Event()
    run_later(done.set)
    assert done.wait(60)


def descriptors() -> int:
    """Count the open files of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def mapped_files(folder: Path) -> int:
    """Count the files of a folder that this process maps."""
    return Path("/proc/self/maps").read_text().count(f"{folder}/")


def test_files_leave_nothing_behind(tmp_path: Path) -> None:
    """A block has neither a name nor a file descriptor, and lives as long as its last view."""
    before = descriptors()
    block = RowBlocks(tmp_path).allocate(ROWS, DIM)
    assert is_mapped(block)
    assert list(tmp_path.iterdir()) == []
    assert descriptors() == before
    block[:] = 7
    view = block[5:7]
    del block
    unmapped()
    assert mapped_files(tmp_path) == 1
    assert view.sum() == 7 * 2 * DIM
    del view
    unmapped()
    assert mapped_files(tmp_path) == 0


def test_small_blocks_are_no_files(tmp_path: Path) -> None:
    """A category of few rows costs no file."""
    assert not is_mapped(RowBlocks(tmp_path).allocate(ROWS - 1, DIM))


def test_growing_keeps_the_rows_and_earlier_views(tmp_path: Path) -> None:
    """Rows stay where they are while the first block is copied to larger files and others are added."""
    rows = vectors(5 * ROWS, DIM, Metric.EUCLIDEAN, seed=1)
    matrix = GrowingMatrix(DIM, RowBlocks(tmp_path), block_bytes=2 * MIN_FILE_BYTES)
    views = []
    for slot, row in enumerate(rows):
        if slot == matrix.capacity:
            views.append(matrix.until(slot))
            matrix.grow()
        matrix[slot] = row
    for view in [*views, matrix.until(len(rows))]:
        np.testing.assert_array_equal(view[np.arange(len(view))], rows[: len(view)])
    assert all(is_mapped(chunk) for chunk in matrix.until(len(rows)).chunks())


@pytest.mark.parametrize("limit", ["full disk", "half of what is free", "missing folder"])
def test_a_block_that_cannot_be_a_file_is_memory(tmp_path: Path, limit: str) -> None:
    """Where there is no room, where little would be left for the catalog, and where the folder fails: one report."""
    failures: list[OSError] = []
    with memory(tmp_path, 2 * MIN_FILE_BYTES >> 10) as disk:
        if limit == "full disk":
            fill(disk)
        elif limit == "half of what is free":
            fill(disk, leave=2 * MIN_FILE_BYTES - mmap.PAGESIZE)
        folder = disk / "missing" if limit == "missing folder" else disk
        block = RowBlocks(folder, failures.append).allocate(ROWS, DIM)
        assert not is_mapped(block)
        assert len(failures) == 1
        block[:] = 1


def test_a_disk_that_gets_full_while_rows_are_mapped(
    tmp_path: Path, make_index: MakeIndex, observer: RecordingObserver
) -> None:
    """Rows go on into space that was reserved, then into memory with an event, and every product is still found."""
    index = make_index(1 << 20, Metric.COSINE, DIM)
    shop = Shop(index, Metric.COSINE)
    rows = vectors(6 * ROWS, DIM, Metric.COSINE, seed=1)
    with memory(tmp_path, 16 * MIN_FILE_BYTES >> 10) as disk, opened(tmp_path / "data") as store:
        index.open(store, disk)
        shop.put_all(one_image_each(rows[:ROWS]))
        assert mapped_files(disk) == 1
        assert observer.of(RowFileFailed) == []
        fill(disk)
        shop.put_all(one_image_each(rows[ROWS:], "q"))
        assert observer.of(RowFileFailed)
        found = index.search([IndexQuery(row[np.newaxis], 1) for row in rows], category="c", exact=True)
        ids = [hit.product_id for result in found for hit in result.hits]
        assert ids == [*one_image_each(rows[:ROWS]), *one_image_each(rows[ROWS:], "q")]
        assert index.kind("c") is IndexKind.FLAT
        for product_id in list(shop.rows):
            shop.remove(product_id)  # and with them the files, so that the disk can be unmounted
        index.wait_until_idle()
        unmapped()
        assert mapped_files(disk) == 0


_WRITE = """
import mmap, sys, tempfile
from pathlib import Path
import numpy as np
from crash.disks import fill
from lookalike_server.index.row_blocks import RowBlocks
folder = Path(sys.argv[1])
if sys.argv[2] == "reserved":
    block = RowBlocks(folder, lambda error: sys.exit(str(error))).allocate(256, 1024)
else:
    file = tempfile.TemporaryFile(dir=folder)
    file.truncate(1 << 20)
    block = np.frombuffer(mmap.mmap(file.fileno(), 1 << 20), dtype=np.float32).reshape(256, 1024)
fill(folder)
block[:] = 1
"""


@pytest.mark.parametrize(("kind", "status"), [("reserved", 0), ("not reserved", -signal.SIGBUS)])
def test_reserved_space_can_be_written_on_a_full_disk(tmp_path: Path, kind: str, status: int) -> None:
    """A disk that is full by the time rows are written kills no process; the control, without reserving, does."""
    with memory(tmp_path, 4 * MIN_FILE_BYTES >> 10) as disk:
        command = [sys.executable, "-c", _WRITE, str(disk), kind]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
        done = subprocess.run(command, env=environment, check=False, timeout=60)
    assert done.returncode == status


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def drop(block: Floats) -> None:
    """Write a block to its file and drop it from memory; skip the test where the system does not."""
    libc = ctypes.CDLL(None)
    size = ctypes.c_size_t(block.nbytes)
    libc.msync(ctypes.c_void_p(block.ctypes.data), size, 4)  # MS_SYNC
    libc.madvise(ctypes.c_void_p(block.ctypes.data), size, 21)  # MADV_PAGEOUT
    if len(missing_pages(block)) < block.nbytes // mmap.PAGESIZE // 2:
        pytest.skip("this file system keeps its pages in memory")


def look(residency: Residency, clock: Clock, blocks: Callable[[], list[Floats]]) -> bool:
    """Let time pass, have the thread look, and return what is known then."""
    clock.now += PERIOD
    residency.known(blocks)
    unmapped()
    return residency.known(blocks)


def test_rows_that_were_dropped_are_reported(tmp_path: Path) -> None:
    """Rows are in memory after they were written and after they were read, and not after the system dropped them."""
    block = RowBlocks(tmp_path).allocate(16 * ROWS, DIM)
    block[:] = 1
    clock = Clock()
    residency = Residency(clock)
    blocks = [block]
    assert residency.known(lambda: blocks)
    assert look(residency, clock, lambda: blocks)
    drop(block)
    assert not look(residency, clock, lambda: blocks)
    block.sum()
    assert look(residency, clock, lambda: blocks)


def test_rows_that_nobody_asked_for_are_unknown() -> None:
    """What was known long ago is not taken for true, for anonymous rows neither, until the system was asked again."""
    clock = Clock()
    residency = Residency(clock)
    clock.now += 2 * PERIOD
    assert not residency.known(list)
    unmapped()
    assert residency.known(list)
