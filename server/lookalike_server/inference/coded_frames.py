"""How large and how many the frames in a coded image are, as its bit stream says, which is what a decoder decodes.

The boxes around it may say anything. Read are the sequence headers of AV1 (AV1 Bitstream Specification, 5.5) and the
sequence parameter sets of HEVC (ITU-T H.265, 7.3.2.2); frames are counted, not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lookalike_server.inference.heif_boxes import BoxError, CodedItem, Range

_MAX_UNITS = 4096
"""The most units of all bit streams of a file that are looked at: an image has four or one for each of its slices."""

_LOOK_AT = 96
"""Bytes of a header that are read: the sizes come before."""

_NO_FRAME, _SPS = 32, 33
"""Types of HEVC's units (ITU-T H.265, table 7-1): from the first on they are parts of no frame."""


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of a coded image: how many, and the most pixels that one has."""

    count: int
    pixels: int


class _Bits:
    """Reads numbers of any number of bits; zeros after the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, count: int) -> int:
        self._left -= count
        shifted = self._value >> self._left if self._left >= 0 else self._value << -self._left
        return shifted & (1 << count) - 1

    def exponential(self) -> int:
        """Read an unsigned number in Exp-Golomb code (ITU-T H.265, 9.2), of at most 32 bits."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > 32:
                raise BoxError("its size cannot be read")
        return (1 << zeros) - 1 + self.read(zeros)


def av1_frames(data: bytes, items: list[CodedItem]) -> list[Frames]:
    """Count the frames of each AV1 image.

    Raises:
        BoxError: A bit stream cannot be read.
    """
    left = iter(range(_MAX_UNITS))
    return [_av1_frames(data, item.data, left) for item in items]


def _av1_frames(data: bytes, within: Range, left: Iterator[int]) -> Frames:
    position, end = within
    count = pixels = 0
    while position < end:
        _take(left)
        header = data[position]
        position += 2 if header & 4 else 1
        size = end - position
        if header & 2:
            size, position = _leb128(data, position)
        if not 0 <= size <= end - position:
            raise BoxError("a part of its image ends early")
        kind = header >> 3 & 15
        if kind == 1:
            pixels = max(pixels, _av1_pixels(_Bits(data[position : position + min(size, _LOOK_AT)])))
        elif kind in (3, 6):  # a frame's header, and a whole frame
            count += 1
        position += size
    return _frames(count, pixels)


def _frames(count: int, pixels: int) -> Frames:
    if not count or not pixels:
        raise BoxError("it has an image without a frame")
    return Frames(count, pixels)


def _take(left: Iterator[int]) -> None:
    if next(left, None) is None:
        raise BoxError("its images have too many parts")


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        byte = data[position + index] if position + index < len(data) else 0
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, position + index + 1
    raise BoxError("a part of its image has no size")


def _av1_pixels(bits: _Bits) -> int:
    """Return the most pixels that a frame of this sequence may have."""
    bits.read(4)  # profile, and whether it is a single frame
    reduced = bits.read(1)
    if reduced:
        bits.read(5)
    else:
        _skip_operating_points(bits)
    across, down = bits.read(4) + 1, bits.read(4) + 1
    width, height = bits.read(across) + 1, bits.read(down) + 1
    # Without the reduced header a frame may state a size of its own, of as many bits.
    return width * height if reduced else 1 << across + down


def _skip_operating_points(bits: _Bits) -> None:
    has_model = delay_bits = 0
    if bits.read(1):  # timing_info
        bits.read(64)
        if bits.read(1):
            bits.exponential()
        has_model = bits.read(1)
        if has_model:
            delay_bits = bits.read(5) + 1
            bits.read(42)
    has_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if has_model and bits.read(1):
            bits.read(2 * delay_bits + 1)
        if has_delay and bits.read(1):
            bits.read(4)


def hevc_frames(data: bytes, items: list[CodedItem]) -> list[Frames]:
    """Count the frames of each HEVC image.

    Raises:
        BoxError: A bit stream cannot be read.
    """
    left = iter(range(_MAX_UNITS))
    configured: dict[Range, tuple[int, int]] = {}  # tiles share one
    frames = []
    for item in items:
        place = item.configuration
        if place is None:
            raise BoxError("an image in it has no decoder configuration")
        if place not in configured:
            configured[place] = _configuration(data, place, left)
        frames.append(_hevc_frames(data, item.data, *configured[place], left))
    return frames


def _configuration(data: bytes, within: Range, left: Iterator[int]) -> tuple[int, int]:
    """Return the bytes of a unit's length, and the most pixels of a frame (ISO/IEC 14496-15, 8.3.3.1)."""
    begin, end = within
    position, pixels = begin + 23, 0
    for _ in range(data[begin + 22]):
        kind, units = data[position] & 63, int.from_bytes(data[position + 1 : position + 3], "big")
        position += 3
        for _ in range(units):
            _take(left)
            size = int.from_bytes(data[position : position + 2], "big")
            position += 2
            if size > end - position:
                raise BoxError("its decoder configuration ends early")
            if kind == _SPS:
                pixels = max(pixels, _sps_pixels(data[position : position + min(size, _LOOK_AT)]))
            position += size
    return (data[begin + 21] & 3) + 1, pixels


def _hevc_frames(data: bytes, within: Range, length_size: int, pixels: int, left: Iterator[int]) -> Frames:
    position, end = within
    count = 0
    while position < end:
        _take(left)
        size = int.from_bytes(data[position : position + length_size], "big")
        position += length_size
        if size > end - position:
            raise BoxError("a part of its image ends early")
        kind = data[position] >> 1 & 63 if size else _NO_FRAME
        if kind == _SPS:
            pixels = max(pixels, _sps_pixels(data[position : position + min(size, _LOOK_AT)]))
        elif kind < _NO_FRAME and size > 2 and data[position + 2] & 128:  # a frame's first slice
            count += 1
        position += size
    return _frames(count, pixels)


def _sps_pixels(unit: bytes) -> int:
    bits = _Bits(unit.replace(b"\0\0\3", b"\0\0"))  # the byte that keeps start codes out (7.4.2)
    bits.read(16 + 4)
    layers = bits.read(3)
    bits.read(1 + 88 + 8)
    present = [(bits.read(1), bits.read(1)) for _ in range(layers)]
    if layers:
        bits.read(2 * (8 - layers))
    for profile, level in present:
        bits.read(88 * profile + 8 * level)
    bits.exponential()
    if bits.exponential() == 3:  # chroma_format_idc
        bits.read(1)
    return bits.exponential() * bits.exponential()
