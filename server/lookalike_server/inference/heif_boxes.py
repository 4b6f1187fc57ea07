"""Walks AVIF and HEIC files (ISO/IEC 14496-12 and 23008-12) as far as their sizes and coded images, and no further.

Every count is bounded, so that a file of any content takes no more than a few milliseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_MAX_BOXES = 1024
"""The most boxes of one level: an image of 48 megapixels by a telephone has about 500, one for each tile."""

_MAX_ITEMS = 1000
"""The most items, which is libheif's own limit."""

_MAX_ASSOCIATIONS = 8192
"""The most properties of all items together; an image has about five."""

Range = tuple[int, int]
"""Where something begins and ends in the file."""


class BoxError(ValueError):
    """The boxes are truncated, contradict each other, or are too many."""


@dataclass(frozen=True, slots=True)
class CodedItem:
    """A coded image of a file: a whole image, a tile of one, its transparency, or a thumbnail.

    Attributes:
        kind: The item's type, for instance b"av01".
        data: Where its data is.
        configuration: Where the contents of its decoder configuration are (`av1C` or `hvcC`), if it has any.
    """

    kind: bytes
    data: Range
    configuration: Range | None


@dataclass(frozen=True, slots=True)
class HeifFile:
    """What an image file of this family contains.

    Attributes:
        width: Columns of the primary image, as its `ispe` property says.
        height: Rows of it.
        items: Every coded image of the file.
    """

    width: int
    height: int
    items: list[CodedItem]


def brands(data: bytes) -> tuple[bytes, ...]:
    """Return the major and the compatible brands of a file that begins with its type; empty for any other."""
    if data[4:8] != b"ftyp":
        return ()
    size = min(int.from_bytes(data[:4], "big"), 256)
    return (data[8:12], *(data[at : at + 4] for at in range(16, size, 4)))


def read_heif(data: bytes, coded: bytes, configured_by: bytes) -> HeifFile:
    """Read the boxes of a file.

    Args:
        data: The file.
        coded: The type of the items that are coded images.
        configured_by: The type of the property that configures their decoder.

    Raises:
        BoxError: They are not as a decoder would need them.
        struct.error: They end early.
    """
    meta = _only(dict_of(data, (0, len(data))), b"meta")
    parts = dict_of(data, (meta[0] + 4, meta[1]))
    (primary_at, _), (properties_at, properties_end) = _only(parts, b"pitm"), _only(parts, b"iprp")
    primary = _number(data, primary_at + 4, 4 if data[primary_at] else 2)
    of_properties = dict_of(data, (properties_at, properties_end))
    properties = list(_boxes(data, _only(of_properties, b"ipco")))
    belonging = _associations(data, of_properties.get(b"ipma", []))
    kinds = _kinds(data, _only(parts, b"iinf"))

    def property_of(item: int, kind: bytes) -> Range | None:
        for index in belonging.get(item, ()):
            if 1 <= index <= len(properties) and properties[index - 1][0] == kind:
                return properties[index - 1][1]
        return None

    size = property_of(primary, b"ispe")
    if size is None:
        raise BoxError("the primary image has no size")
    width, height = struct.unpack_from(">II", data, size[0] + 4)
    items = [
        CodedItem(kinds[item], place, property_of(item, configured_by))
        for item, place in _places(data, _only(parts, b"iloc"), parts.get(b"idat", []), kinds, coded)
    ]
    if not items:
        raise BoxError("no image is in it")
    return HeifFile(width, height, items)


def dict_of(data: bytes, within: Range) -> dict[bytes, list[Range]]:
    """Return where the contents of boxes are, by their type."""
    found: dict[bytes, list[Range]] = {}
    for kind, place in _boxes(data, within):
        found.setdefault(kind, []).append(place)
    return found


def _boxes(data: bytes, within: Range) -> Iterator[tuple[bytes, Range]]:
    position, end = within
    for _ in range(_MAX_BOXES):
        if position >= end:
            return
        size, kind = struct.unpack_from(">I4s", data, position)
        begin = position + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, begin)
            begin += 8
        following = position + size if size else end
        if following < begin or following > end:
            raise BoxError("it ends early" if end == len(data) else "a box does not end where it should")
        yield kind, (begin, following)
        position = following
    if position < end:
        raise BoxError("there are too many boxes")


def _only(boxes: dict[bytes, list[Range]], kind: bytes) -> Range:
    """Return the one box of a type: decoders differ in which of several they read."""
    found = boxes.get(kind, [])
    if len(found) != 1:
        raise BoxError(f"it has {len(found)} boxes {kind.decode('latin-1')}")
    return found[0]


def _kinds(data: bytes, box: Range) -> dict[int, bytes]:
    """Return the type of each item (`iinf`)."""
    begin, end = box
    kinds: dict[int, bytes] = {}
    for kind, (at, _) in _boxes(data, (begin + (8 if data[begin] else 6), end)):
        version = data[at]
        if kind == b"infe" and version >= 2:
            wide = 4 if version > 2 else 2
            kinds[_number(data, at + 4, wide)] = data[at + 6 + wide : at + 10 + wide]
    if len(kinds) > _MAX_ITEMS:
        raise BoxError("there are too many items")
    return kinds


def _associations(data: bytes, boxes: list[Range]) -> dict[int, list[int]]:
    """Return the indexes, from 1, of each item's properties (`ipma`)."""
    belonging: dict[int, list[int]] = {}
    associations = 0
    for begin, _ in boxes[:2]:
        wide_items, wide_indexes = data[begin] >= 1, data[begin + 3] & 1
        (count,) = struct.unpack_from(">I", data, begin + 4)
        position = begin + 8
        for _ in range(min(count, _MAX_ITEMS)):
            item = _number(data, position, 4 if wide_items else 2)
            position += 4 if wide_items else 2
            entries, each = data[position], 2 if wide_indexes else 1
            mask = 0x7FFF if wide_indexes else 0x7F
            at = range(position + 1, position + 1 + entries * each, each)
            belonging.setdefault(item, []).extend(_number(data, one, each) & mask for one in at)
            position += 1 + entries * each
            associations += entries
            if associations > _MAX_ASSOCIATIONS:
                raise BoxError("its images have too many properties")
    return belonging


def _places(
    data: bytes, box: Range, idat: list[Range], kinds: dict[int, bytes], coded: bytes
) -> Iterator[tuple[int, Range]]:
    """Return where the data of each coded item is (`iloc`)."""
    begin, _ = box
    version = data[begin]
    offset_size, length_size = data[begin + 4] >> 4, data[begin + 4] & 15
    base_size, index_size = data[begin + 5] >> 4, data[begin + 5] & 15 if version else 0
    wide = 4 if version > 1 else 2
    count, position = _number(data, begin + 6, wide), begin + 6 + wide
    if count > _MAX_ITEMS:
        raise BoxError("there are too many items")
    for _ in range(count):
        item, position = _number(data, position, wide), position + wide
        method = 0
        if version:
            method, position = _number(data, position, 2) & 15, position + 2
        base, position = _number(data, position + 2, base_size), position + 2 + base_size
        extents, position = _number(data, position, 2), position + 2
        each = index_size + offset_size + length_size
        if kinds.get(item) == coded:
            if extents != 1 or method > 1 or (method == 1 and len(idat) != 1):
                raise BoxError("an image in it is in several pieces, which is not read")
            within = idat[0] if method else (0, len(data))
            at = within[0] + base + _number(data, position + index_size, offset_size)
            length = _number(data, position + index_size + offset_size, length_size)
            end = at + length if length else within[1]
            if not within[0] <= at < end <= within[1]:
                raise BoxError("an image in it lies outside of the file")
            yield item, (at, end)
        position += extents * each
        if position > box[1]:
            raise BoxError("a box does not end where it should")


def _number(data: bytes, position: int, size: int) -> int:
    if position + size > len(data):
        raise BoxError("it ends early")
    return int.from_bytes(data[position : position + size], "big")
