"""What an AVIF's or HEIC's header says: its size, and what its coded images will cost."""

from __future__ import annotations

from lookalike_server.inference.coded_frames import av1_frames, hevc_frames
from lookalike_server.inference.heif_boxes import BoxError, brands, read_heif

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}

# All coded images of an AVIF or HEIC - tiles, transparency, thumbnails, layers - have at most so many times the pixels
# of the image, or of one of this size: nothing else bounds the time that decoding takes.
_MAX_CODED = 8
_SMALL = 1 << 18

# Bytes for each pixel of a frame of 16-bit samples without subsampling, and the most frames that a decoder holds.
_FRAME_BYTES = 6
_MAX_HELD = 9


def is_avif(data: bytes) -> bool:
    """Whether a file is AVIF, valid or not; one that is HEIC too counts as AVIF."""
    return not _AVIF_BRANDS.isdisjoint(brands(data))


def is_heic(data: bytes) -> bool:
    """Whether a file is HEIC, valid or not."""
    return not _HEIC_BRANDS.isdisjoint(brands(data)) and not is_avif(data)


def read_heif_header(data: bytes) -> tuple[int, int, int]:
    """Return the width and the height of the stored image, and the bytes of frames that a decoder holds.

    Raises:
        BoxError: It cannot be read, or its coded images are out of all proportion to the image.
        struct.error: It ends early.
        IndexError: It ends early.
    """
    if is_avif(data):
        file = read_heif(data, b"av01", b"av1C")
        frames = av1_frames(data, file.items)
    else:
        file = read_heif(data, b"hvc1", b"hvcC")
        frames = hevc_frames(data, file.items)
    if not file.width or not file.height:
        raise BoxError("its image has no pixels")
    pixels = max(file.width * file.height, _SMALL)
    if sum(each.count * each.pixels for each in frames) > _MAX_CODED * pixels:
        raise BoxError("its frames have far more pixels than the image")
    held = max(min(each.count, _MAX_HELD) * each.pixels for each in frames) * _FRAME_BYTES
    return file.width, file.height, held
