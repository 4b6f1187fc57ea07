"""Any bytes as an AVIF or HEIC: the walk over boxes and bit streams, and what is decoded after it.

FUZZ_EXAMPLES sets how many; 1,000 by default.
"""

from __future__ import annotations

import os
import resource
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import ColorManagement, EncodedImage, Resize
from lookalike_server.inference.image_cost import PixelLimits
from lookalike_server.inference.image_decoding import ImageDecoder
from lookalike_server.inference.image_header import BrokenHeaderError, read_header
from support.color_profiles import rgb_profile
from support.images import deep_heic, exif, heic, save, smooth, with_alpha

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "1000"))
IMAGE = smooth(160, 130)
SEEDS = [
    save(IMAGE, "AVIF", exif=exif(6), icc_profile=rgb_profile("Display P3")),
    save(with_alpha(IMAGE), "AVIF"),
    save(IMAGE, "AVIF", save_all=True, append_images=[IMAGE.rotate(180)]),
    heic(IMAGE, exif=exif(6)),
    heic(with_alpha(IMAGE)),
    heic(IMAGE, tile_size=64),
    deep_heic(IMAGE),
]
LIMIT = 1 << 18
DECODER = ImageDecoder(
    8, 8, Resize.BILINEAR, 10**7, LIMIT, PixelLimits(avif=LIMIT, heic=LIMIT), color_management=ColorManagement.SRGB
)

fuzz = settings(max_examples=EXAMPLES)

EDIT = st.tuples(
    st.floats(0, 1, exclude_max=True) | st.floats(0, 0.1),
    st.sampled_from(["set", "cut", "repeat"]),
    st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff" * 4, bytes(4), b"\0\0\0\1", b"\x7f\xff\xff\xff"]),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a file with some bytes set, cut out or repeated, mostly near its beginning."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for where, how, what in draw(st.lists(EDIT, min_size=1, max_size=6)):
        at = int(where * len(data))
        if how == "set":
            data[at : at + len(what)] = what
        elif how == "cut":
            del data[at : at + len(what)]
        else:
            data[at:at] = data[at : at + 16 * len(what)]
    return bytes(data)


@fuzz
@given(damaged() | st.binary(max_size=400).map(lambda tail: SEEDS[0][:32] + tail))
def test_a_walk_takes_milliseconds(data: bytes) -> None:
    """It ends in a header or in the one error, whatever the bytes are."""
    before = time.thread_time()
    try:
        header = read_header(data)
    except BrokenHeaderError:
        header = None
    assert time.thread_time() - before < 0.25
    assert header is None or (header.width > 0 and header.height > 0)


@fuzz
@given(damaged())
def test_what_passes_is_cheap(data: bytes) -> None:
    """It is decoded or rejected for its field, in the time and the memory that an image of the limit takes."""
    before, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    image = EncodedImage(data, None, "image")
    predicted, rejected = 0, None
    try:
        predicted = DECODER.decoded_bytes(image)
        assert DECODER.decode(image).shape == (8, 8, 3)
    except LookalikeError as error:
        rejected = error
    assert rejected is None or (rejected.code, rejected.field) == (Code.INVALID_ARGUMENT, "image")
    assert time.process_time() - before < 2
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    assert grown * 1024 <= predicted + (32 << 20)
