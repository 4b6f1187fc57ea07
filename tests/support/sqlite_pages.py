"""Damages the file of a catalog as disks do: pages of zeros, pages that trade places, single bits."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from lookalike_server.store.sqlite import FILE

PAGE = 4096

TABLES = {
    "products": "products",
    "categories": "products_by_category",
    "embeddings": "embeddings",
    "labels": "sqlite_autoindex_embeddings_1",
}
"""What a search reads: the b-trees of these tables and indexes."""


def leaves(folder: Path, name: str) -> list[int]:
    """Return the pages right below the root of a table's or index's b-tree, which must have such."""
    path = folder / FILE
    with closing(sqlite3.connect(path)) as file:
        (root,) = file.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    page = read_page(path, root)
    assert page[0] in (2, 5), "its root is a leaf: it needs more rows"
    cells = int.from_bytes(page[3:5])
    pointers = [int.from_bytes(page[12 + 2 * number : 14 + 2 * number]) for number in range(cells)]
    return [int.from_bytes(page[at : at + 4]) for at in pointers] + [int.from_bytes(page[8:12])]


def read_page(path: Path, number: int) -> bytes:
    """Return a page; the first one is 1."""
    with path.open("rb") as file:
        file.seek((number - 1) * PAGE)
        return file.read(PAGE)


def write_page(path: Path, number: int, page: bytes) -> None:
    """Overwrite a page."""
    with path.open("r+b") as file:
        file.seek((number - 1) * PAGE)
        file.write(page)


def zero_page(folder: Path, number: int) -> None:
    """Make a page zeros."""
    write_page(folder / FILE, number, bytes(PAGE))


def swap_pages(folder: Path, one: int, other: int) -> None:
    """Let two pages trade places."""
    first, second = read_page(folder / FILE, one), read_page(folder / FILE, other)
    write_page(folder / FILE, one, second)
    write_page(folder / FILE, other, first)


def flip_bit(folder: Path, data: bytes, at: int) -> None:
    """Flip the lowest bit of the byte `at` of some data, which must be in the file once."""
    path = folder / FILE
    contents = path.read_bytes()
    assert contents.count(data) == 1
    begin = contents.index(data) + at
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(bytes([contents[begin] ^ 1]))
