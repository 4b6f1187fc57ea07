"""Damaged .npy files: one sentence, whatever the bytes."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lookalike_client.transfer.catalog_error import CatalogError
from lookalike_client.transfer.feature_metadata import CategoryPerRow
from lookalike_client.transfer.features import Features
from lookalike_client.transfer.npy_file import open_array


def npy(array: np.ndarray) -> bytes:
    """Return the bytes of an .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


FILES = {
    "vectors.npy": npy(np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)),
    "ids.npy": npy(np.array(list("abcdef"))),
    "categories.npy": npy(np.array([b"Men"] * 6)),
}

piece = st.one_of(
    st.binary(min_size=1, max_size=4), st.text("0123456789-(),'<>fUS eLj{}[]:", max_size=20).map(str.encode)
)
damage = st.tuples(st.integers(0, 300), st.integers(0, 4), piece)


def read(folder: Path) -> int:
    """Return how many products three files have, having read all of them."""
    features = Features(folder / "vectors.npy", folder / "ids.npy", CategoryPerRow(folder / "categories.npy"))
    batches = list(features.batches(size=2, limit=None, existing=set()))
    assert all("\n" not in row.reason for batch in batches for row in batch.failed)
    assert sum(batch.rows for batch in batches) == features.count(None)
    return features.count(None)


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write the files."""
    for name, data in files.items():
        (folder / name).write_bytes(data)


@given(st.sampled_from(sorted(FILES)), st.lists(damage, min_size=1, max_size=3))
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_any_damage_is_one_sentence(tmp_path: Path, name: str, damages: list[tuple[int, int, bytes]]) -> None:
    """Bytes replaced, removed and inserted: the file is read, or the error is one line; a row may fail alone."""
    data = FILES[name]
    for place, removed, inserted in damages:
        data = data[:place] + inserted + data[place + removed :]
    write(tmp_path, FILES | {name: data})
    error = ""
    try:
        read(tmp_path)
    except CatalogError as raised:
        error = str(raised)
    assert "\n" not in error
    assert len(error) < 500


def test_whole_files_are_read(tmp_path: Path) -> None:
    """The control: undamaged, all six products are there."""
    write(tmp_path, FILES)
    assert read(tmp_path) == 6


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (6, 8", "its header is damaged"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 8)}", ""),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (-6, 8)}", ""),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (6" + b"0" * 40 + b", 8)}", ""),
        (b"(" * 900, ""),
    ],
)
def test_headers_that_numpys_parser_fails_on(tmp_path: Path, header: bytes, reason: str) -> None:
    """Open brackets, and shapes that no memory has: whatever NumPy raises, the caller gets the file and a sentence."""
    header = header.ljust(1014) + b"\n"
    path = tmp_path / "v.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(192))
    with pytest.raises(CatalogError, match=f"v.npy cannot be read; it may be truncated: {reason}"):
        open_array(path, "")


def test_a_character_beyond_unicode_fails_its_row_alone(tmp_path: Path) -> None:
    """An id with a code point that no text has is listed, and the other five are read."""
    ids = bytearray(FILES["ids.npy"])
    ids[-2] = 0x11  # U+110066 instead of f
    write(tmp_path, FILES | {"ids.npy": bytes(ids)})
    features = Features(tmp_path / "vectors.npy", tmp_path / "ids.npy", CategoryPerRow(tmp_path / "categories.npy"))
    (batch,) = features.batches(size=10, limit=None, existing=set())
    assert [(row.number, row.reason) for row in batch.failed] == [(5, "the entry in row 5 is not text")]
    assert len(batch.ready) == 5


@pytest.mark.timeout(30)
def test_a_pipe_is_no_array(tmp_path: Path) -> None:
    """A named pipe would wait for a writer."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CatalogError, match="pipe is not a regular file"):
        open_array(tmp_path / "pipe", "")
