"""What an AVIF or HEIC will cost is known before it is decoded, whatever its boxes claim."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from PIL import Image

from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.inference import EncodedImage, Resize
from lookalike_server.inference.image_decoding import ImageDecoder
from lookalike_server.inference.image_header import BrokenHeaderError, ImageKind, read_header
from lookalike_server.inference.stored_image import stored_image_of
from support.images import exif, heic, save, smooth, with_alpha

DECODER = ImageDecoder(8, 8, Resize.BILINEAR, 10**7, 10**7)


def avif_of(image: Image.Image) -> bytes:
    """Write an AVIF, fast."""
    return save(image, "AVIF", speed=10)


WRITERS: dict[ImageKind, Callable[[Image.Image], bytes]] = {ImageKind.AVIF: avif_of, ImageKind.HEIC: heic}
KINDS = list(WRITERS)


def box(kind: bytes, *contents: bytes) -> bytes:
    """Return a box (ISO/IEC 14496-12, 4.2)."""
    body = b"".join(contents)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def full(kind: bytes, *contents: bytes, version: int = 0) -> bytes:
    """Return a box with a version."""
    return box(kind, bytes((version, 0, 0, 0)), *contents)


def avif(width: int, height: int, image: bytes, *, items: int = 1, associations: int = 2) -> bytes:
    """Write an AVIF that claims this size, with items that all have the same bit stream."""
    infos = [full(b"infe", struct.pack(">HH4sx", item, 0, b"av01"), version=2) for item in range(1, items + 1)]
    properties = box(b"ipco", full(b"ispe", struct.pack(">II", width, height)), box(b"av1C", b"\x81\x08\x0c\0"))
    entry = bytes((associations, 1, 0x82, *([1] * (associations - 2))))
    belonging = full(
        b"ipma", struct.pack(">I", items), *(struct.pack(">H", item) + entry for item in range(1, items + 1))
    )

    def file(offset: int) -> bytes:
        places = [struct.pack(">HHHII", item, 0, 1, offset, len(image)) for item in range(1, items + 1)]
        return (
            box(b"ftyp", b"avif", bytes(4), b"avifmif1")
            + full(
                b"meta",
                full(b"hdlr", bytes(4), b"pict", bytes(13)),
                full(b"pitm", struct.pack(">H", 1)),
                full(b"iloc", b"\x44\0", struct.pack(">H", items), *places),
                full(b"iinf", struct.pack(">H", items), *infos),
                box(b"iprp", properties, belonging),
            )
            + box(b"mdat", image)
        )

    return file(len(file(0)) - len(image))


def bit_stream(image: Image.Image) -> bytes:
    """Return the AV1 bit stream of an image."""
    data = save(image, "AVIF", speed=10)
    return data[data.index(b"mdat") + 4 :]


def rejection(data: bytes) -> str | None:
    """Return why a header is rejected; None where it is not."""
    try:
        read_header(data)
    except BrokenHeaderError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(64, 64), (65, 100), (300, 67), (1023, 513)])
def test_size(kind: ImageKind, size: tuple[int, int]) -> None:
    """The header has the size that the decoder makes of the file, transparent or not."""
    for image in (smooth(*size), with_alpha(smooth(*size))):
        header = read_header(WRITERS[kind](image))
        assert header is not None
        assert header.kind is kind
        assert (header.width - size[0], header.height - size[1]) in {(0, 0), (size[0] % 2, size[1] % 2)}


def test_a_file_by_hand_is_read() -> None:
    """What the tests below are made of is a valid image."""
    data = avif(160, 120, bit_stream(smooth(160, 120)))
    assert rejection(data) is None
    assert DECODER.decode(EncodedImage(data, None, "image")).shape == (8, 8, 3)


def test_a_bit_stream_larger_than_the_image() -> None:
    """Frames that are far larger than the file claims are found in the bit stream, and rejected."""
    large = bit_stream(Image.new("RGB", (4000, 3000)))
    assert rejection(avif(4000, 3000, large)) is None
    assert rejection(avif(64, 64, large)) == "AVIF: its frames have far more pixels than the image"


def test_a_bit_stream_of_many_frames() -> None:
    """A few bytes a frame make a film, of which a decoder would decode every frame: it is rejected by their number."""
    one = bit_stream(smooth(700, 500))
    assert rejection(avif(700, 500, one * 7)) is None
    assert rejection(avif(700, 500, one * 9)) == "AVIF: its frames have far more pixels than the image"
    assert rejection(avif(700, 500, one * 9000)) == "AVIF: its images have too many parts"


def test_many_tiles_with_one_bit_stream() -> None:
    """Items that share their bytes count one by one."""
    one = bit_stream(smooth(700, 500))
    assert rejection(avif(700, 500, one, items=8)) is None
    assert rejection(avif(700, 500, one, items=9)) == "AVIF: its frames have far more pixels than the image"


@pytest.mark.parametrize(
    "data",
    [
        avif(700, 500, b"\x12\0" * 4000, items=1000),
        avif(700, 500, b"\x12\0", items=1000, associations=255),
        avif(700, 500, b"\x12\0", items=1001),
        box(b"ftyp", b"avif", bytes(4), b"avifmif1") + box(b"free") * 100_000,
        box(b"ftyp", b"avif", bytes(4), b"avif") + full(b"meta", box(b"free") * 100_000),
        struct.pack(">I4s", 2**32 - 1, b"ftyp") + b"avif" * 100_000,
        box(b"ftyp", b"avif", bytes(4), b"avif") + full(b"meta") * 2,
    ],
    ids=["parts", "properties", "items", "boxes", "boxes inside", "brands", "two contents"],
)
def test_counts_are_bounded(data: bytes) -> None:
    """A file of nothing but headers is given up early."""
    before = time.thread_time()
    assert rejection(data) is not None
    assert time.thread_time() - before < 0.2


def test_the_still_image_of_an_animation() -> None:
    """An animated AVIF gives its still image, as the header says, and the other frames are not looked at."""
    image = smooth(160, 120)
    data = save(image, "AVIF", save_all=True, append_images=[image.rotate(180)], quality=90)
    assert data[8:12] == b"avis"
    still = DECODER.decode(EncodedImage(save(image, "AVIF", quality=90), None, "image"))
    animated = DECODER.decode(EncodedImage(data, None, "image"))
    assert abs(animated.astype(int) - still).max() <= 3


@pytest.mark.parametrize("kind", KINDS)
def test_turned(kind: ImageKind) -> None:
    """A camera's orientation is applied, whether the decoder does it or leaves it to EXIF."""
    image = smooth(160, 120)
    plain, turned = (
        heic(each, **options) if kind is ImageKind.HEIC else save(each, "AVIF", **options)
        for each, options in ((image.rotate(-90, expand=True), {}), (image, {"exif": exif(6)}))
    )
    one, other = (DECODER.decode(EncodedImage(data, None, "image")).astype(int) for data in (plain, turned))
    assert abs(one - other).max() <= 6


def test_media_types() -> None:
    """Stored files have the media type of what they are."""
    for kind, expected in ((ImageKind.AVIF, "image/avif"), (ImageKind.HEIC, "image/heic")):
        stored = stored_image_of(EncodedImage(WRITERS[kind](smooth(64, 64)), None, "image"), 10**6)
        assert stored is not None
        assert stored.media_type == expected


WITHOUT = """
import sys
sys.modules["pillow_heif"] = None
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.inference import EncodedImage, Resize
from lookalike_server.inference.image_decoding import ImageDecoder
try:
    ImageDecoder(8, 8, Resize.NEAREST, 10**6, 10**6).decode(EncodedImage(sys.stdin.buffer.read(), None, "image"))
except LookalikeError as error:
    print(error.message)
"""


def test_without_pillow_heif() -> None:
    """A server without the extra says what came, how it would be read and what to send; the others are read."""
    for data, expected in (
        (heic(smooth(64, 64)), "is HEIC, which this server reads only where lookalike-server[heic] is installed; "
                               "send JPEG, PNG, WebP, AVIF, GIF or BMP\n"),
        (save(smooth(64, 64), "AVIF"), ""),
    ):  # fmt: skip
        ran = subprocess.run([sys.executable, "-c", WITHOUT], input=data, stdout=subprocess.PIPE, check=True)
        assert ran.stdout.decode() == expected


def test_limits_of_both() -> None:
    """A file of more pixels than any image may have is rejected by its header."""
    small = ImageDecoder(8, 8, Resize.BILINEAR, 10**7, 100 * 100)
    for write in WRITERS.values():
        with pytest.raises(LookalikeError, match="is 200 x 100 pixels; send at most 10,000"):
            small.decode(EncodedImage(write(smooth(200, 100)), None, "image"))
