"""Lets Pillow read every valid image, whatever is in its metadata: what is damaged or too large there is passed over.

Imported for what it changes in Pillow, before anything is decoded.
"""

from __future__ import annotations

import warnings
from typing import Any

from PIL import AvifImagePlugin, JpegImagePlugin, PngImagePlugin
from PIL import Image as PilImage

# `ImageDecoder` checks its own limit before; Pillow's would warn instead of reject.
PilImage.MAX_IMAGE_PIXELS = None

# All of a PNG's decompressed texts, which nobody reads; Pillow's own limit is 64 MiB.
PngImagePlugin.MAX_TEXT_MEMORY = PngImagePlugin.MAX_TEXT_CHUNK

# Images are decoded beside each other, one in a thread; libavif would start a thread on each core for every one.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

# Pillow's warnings about broken files contain the caller's values; Python would print each and remember it forever.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_PROFILE_HEAD = 14  # of a piece of a profile in a JPEG: "ICC_PROFILE", a zero, its number and how many there are


def _skipping_large_texts(read: Any) -> Any:
    """Return what reads a chunk of text as Pillow does, until texts were too large; the others are passed over."""

    def read_chunk(stream: Any, position: int, length: int) -> Any:
        begin = stream.fp.tell()
        if stream.text_memory < PngImagePlugin.MAX_TEXT_MEMORY:
            try:
                return read(stream, position, length)
            except ValueError:
                stream.text_memory = PngImagePlugin.MAX_TEXT_MEMORY
        stream.fp.seek(begin)
        return stream.fp.read(length)

    return read_chunk


def _skipping_damaged_profiles(read: Any) -> Any:
    """Return what reads a PNG's profile as Pillow does; one that it rejects is passed over."""

    def read_chunk(stream: Any, position: int, length: int) -> Any:
        begin = stream.fp.tell()
        try:
            return read(stream, position, length)
        except (ValueError, SyntaxError, IndexError):
            stream.fp.seek(begin)
            return stream.fp.read(length)

    return read_chunk


def _skipping_short_pieces(read: Any) -> Any:
    """Return what reads a JPEG's segment as Pillow does; pieces of a profile without their numbers are passed over."""

    def read_segment(image: Any, marker: int) -> None:
        read(image, marker)
        image.icclist = [piece for piece in image.icclist if len(piece) >= _PROFILE_HEAD]

    return read_segment


for _name in ("chunk_zTXt", "chunk_iTXt"):
    setattr(PngImagePlugin.PngStream, _name, _skipping_large_texts(getattr(PngImagePlugin.PngStream, _name)))
PngImagePlugin.PngStream.chunk_iCCP = _skipping_damaged_profiles(PngImagePlugin.PngStream.chunk_iCCP)  # type: ignore[method-assign]
_short, _long, _read_segment = JpegImagePlugin.MARKER[0xFFE2]
JpegImagePlugin.MARKER[0xFFE2] = (_short, _long, _skipping_short_pieces(_read_segment))
