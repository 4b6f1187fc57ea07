"""Compressed requests: within bounds, whole, and known from others."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.rpc.decompression import (
    ANY_RATIO_BYTES,
    GZIP_START,
    MAX_CONTENT_BYTES,
    MAX_RATIO,
    ZLIB_STARTS,
    declared_size,
    gunzipped,
)
from lookalike_server.rpc.message_limits import MIB
from support.wire_bytes import MESSAGES, nested

LIMIT = 64 * MIB
SAME = b"the same words in all products"


def rejection(data: bytes, max_bytes: int = LIMIT) -> str:
    """Return how compressed data is rejected."""
    with pytest.raises(LookalikeError) as error:
        gunzipped(data, max_bytes)
    assert (error.value.code, error.value.field) == (Code.INVALID_ARGUMENT, "request")
    return error.value.message


@given(st.binary(max_size=1000), st.integers(0, 9))
def test_what_was_compressed_comes_back(content: bytes, level: int) -> None:
    """Whatever the content and the level, it comes back whole, and its size was known before."""
    data = gzip.compress(content, level, mtime=0)
    assert declared_size(data) == len(content)
    assert gunzipped(data, len(content)) == content


@pytest.mark.parametrize(("size", "what"), [(42 * MIB, "41 KB"), (LIMIT, "64 KB")])
def test_bombs_are_rejected_before_they_are_decompressed(size: int, what: str) -> None:
    """Nothing is allocated for a message whose own size is too great for its compressed bytes."""
    data = gzip.compress(bytes(size))
    tracemalloc.start()
    try:
        assert "send it uncompressed" in rejection(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_plain_images_compress_by_any_ratio() -> None:
    """Pixels of a plain white image of the largest size that may have any ratio are decompressed; more are not."""
    white = b"\xff" * ANY_RATIO_BYTES
    data = gzip.compress(white, mtime=0)
    assert len(white) > 500 * len(data)
    assert gunzipped(data, LIMIT) == white
    assert f"more than {MAX_RATIO} times" in rejection(gzip.compress(white + b"\xff", mtime=0))


def test_products_with_the_same_attributes_are_decompressed() -> None:
    """Text that repeats a lot stays below the ratio, at any size."""
    pairs = b"".join(
        nested(5, inside=nested(1, inside=b"attribute %d" % i) + nested(2, inside=SAME)) for i in range(64)
    )
    numbers = np.random.default_rng(1)
    ids = (numbers.bytes(16).hex().encode() for _ in range(2000))
    content = b"".join(nested(1, inside=nested(1, inside=each) + pairs) for each in ids)
    data = gzip.compress(content, mtime=0)
    assert len(content) > ANY_RATIO_BYTES
    assert len(content) > 40 * len(data)
    assert gunzipped(data, LIMIT) == content


def test_a_limit_is_one_of_the_content() -> None:
    """A message may have as many bytes as the method takes, and not one more."""
    data = gzip.compress(bytes(1000))
    assert gunzipped(data, 1000) == bytes(1000)
    message = rejection(data, 999)
    assert "has 1,000 bytes when decompressed" in message
    assert "at most 999" in message


def test_what_is_long_is_not_decompressed() -> None:
    """As much as an image file or a thousand vectors may have is decompressed, and allocated once; more is not."""
    content = np.random.default_rng(1).bytes(MAX_CONTENT_BYTES)
    data = gzip.compress(content, 1, mtime=0)
    tracemalloc.start()
    try:
        assert gunzipped(data, LIMIT) == content
        assert tracemalloc.get_traced_memory()[1] < 1.25 * MAX_CONTENT_BYTES
    finally:
        tracemalloc.stop()
    assert "send it uncompressed" in rejection(gzip.compress(content + b"x", 1, mtime=0))


@pytest.mark.parametrize("said", [0, 10, 99, 101, 3 * MIB])
def test_a_wrong_size_is_found_out(said: int) -> None:
    """Whoever says a wrong size gets nothing decompressed beyond it."""
    data = gzip.compress(bytes(100))[:-4] + struct.pack("<I", said)
    assert "not one whole gzip member" in rejection(data)


def test_a_bomb_that_says_to_be_small_stays_small() -> None:
    """No more is decompressed than the message says that it has."""
    data = gzip.compress(bytes(LIMIT))[:-4] + struct.pack("<I", 1000)
    tracemalloc.start()
    try:
        assert "not one whole gzip member" in rejection(data)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


WHOLE = gzip.compress(b"some content", mtime=0)


@pytest.mark.parametrize(
    "data",
    [
        GZIP_START,
        WHOLE[:5],
        WHOLE[:-1],
        WHOLE[:-8],
        WHOLE + b"\0",
        WHOLE + b"garbage" + struct.pack("<I", 12),
        WHOLE + WHOLE,
        GZIP_START + b"\x09" + WHOLE[3:],
        WHOLE[:-5] + b"\0" + WHOLE[-4:],
        WHOLE[:12] + b"\xff\xff\xff" + WHOLE[15:],
    ],
)
def test_damaged_data_is_rejected(data: bytes) -> None:
    """Truncated, concatenated, damaged, and followed by something: INVALID_ARGUMENT that says what to send."""
    assert "not one whole gzip member" in rejection(data)


def test_no_message_begins_like_a_compressed_one() -> None:
    """Gzip's first byte is no tag, and zlib's is one of field 15, which no request has."""
    assert GZIP_START[0] & 7 == 7
    for level in range(10):
        assert zlib.compress(b"x", level)[:2] in ZLIB_STARTS
    assert {start[0] >> 3 for start in ZLIB_STARTS} == {15}
    for message in MESSAGES.values():
        assert 15 not in message.DESCRIPTOR.fields_by_number
