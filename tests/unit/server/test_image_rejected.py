"""What is no image, broken or too large: always the same error naming the field, never anything else."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import EncodedImage, RawImage, Region, Resize
from lookalike_server.inference.image_decoding import ImageDecoder
from support.images import PNG_SIGNATURE, blocks, chunk, exif, png, save

# Pillow warns of broken files; the server has these warnings off.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

READER = ImageDecoder(8, 8, Resize.BILINEAR, max_bytes=1_000_000, max_pixels=1_000_000)


def sample_files() -> dict[str, bytes]:
    """A valid file of every kind that is taken, small enough to break at every byte."""
    pixels = np.random.default_rng(5).integers(0, 256, size=(24, 32, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    frames = {"save_all": True, "append_images": [image.rotate(180)]}
    return {
        "jpeg": save(image, "JPEG", exif=exif(6)),
        "progressive jpeg": save(image, "JPEG", progressive=True),
        "cmyk jpeg": save(image.convert("CMYK"), "JPEG"),
        "several jpegs": save(image, "MPO", **frames),
        "png": save(image, "PNG", exif=exif(6)),
        "palette png": save(image.quantize(16), "PNG"),
        "apng": save(image, "PNG", **frames),
        "webp": save(image, "WEBP"),
        "lossless webp": save(image, "WEBP", lossless=True, exif=exif(6)),
        "animated webp": save(image, "WEBP", **frames),
        "gif": save(image, "GIF", **frames),
        "bmp": save(image, "BMP"),
    }


FILES = sample_files()


def rejection(data: bytes, reader: ImageDecoder = READER, region: Region | None = None) -> str | None:
    """Why this file is rejected, or None for an image; the test fails on any other outcome."""
    try:
        pixels = reader.read(EncodedImage(data, region, "query.image.encoded"))
    except LookalikeError as error:
        rejected = error
    else:
        assert pixels.shape == (8, 8, 3)
        assert pixels.dtype == np.uint8
        return None
    assert (rejected.code, rejected.field) == (Code.INVALID_ARGUMENT, "query.image.encoded")
    return rejected.message


@pytest.mark.parametrize("kind", FILES)
def test_samples_are_images(kind: str) -> None:
    """The files that the other tests here break are whole to begin with."""
    assert rejection(FILES[kind]) is None


def test_empty() -> None:
    """No bytes at all are told apart from wrong ones."""
    assert rejection(b"") == "is empty; send the bytes of an image file"


OTHERS = {
    "byte": b"\0",
    "zeros": b"\0" * 4096,
    "text": b"a text, not an image\n" * 20,
    "noise": np.random.default_rng(1).bytes(4096),
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n%%EOF\n",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n",
    "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>',
    "ppm": b"P6 2 2 255\n" + bytes(12),
    "wav": b"RIFF\x24\0\0\0WAVEfmt " + bytes(28),
} | {name: save(Image.new("RGB", (16, 16)), name) for name in ("TIFF", "ICO", "TGA", "PCX", "JPEG2000", "AVIF")}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_not_a_image(data: bytes) -> None:
    """Only the formats of the contract are taken, also where Pillow could read more."""
    assert rejection(data) == "is not a JPEG, PNG, WebP, GIF or BMP image"


@pytest.mark.parametrize("kind", FILES)
def test_truncated_at_every_byte(kind: str) -> None:
    """A file that ends early is rejected, or shows an image where only what comes behind the first one is missing."""
    data = FILES[kind]
    taken = [length for length in range(len(data)) if rejection(data[:length]) is None]
    # No gap: the pixels were complete at the first of them.
    assert taken == list(range(len(data) - len(taken), len(data)))


@pytest.mark.parametrize("kind", ["jpeg", "progressive jpeg", "cmyk jpeg", "png", "webp", "lossless webp", "bmp"])
def test_half_a_file(kind: str) -> None:
    """Half an image is never passed off as one."""
    data = FILES[kind]
    message = rejection(data[: len(data) // 2])
    assert message is not None
    assert "truncated or broken" in message or "is not a" in message


@pytest.mark.parametrize("kind", FILES)
def test_random_damage(kind: str) -> None:
    """Whatever bytes are changed, the answer is an image or the one error."""
    chance = np.random.default_rng(list(kind.encode()))
    for _ in range(300):
        data = bytearray(FILES[kind])
        for _ in range(chance.integers(1, 9)):
            data[chance.integers(len(data))] = chance.integers(256)
        rejection(bytes(data), region=Region(0.25, 0.25, 0.5, 0.5))


@pytest.mark.parametrize("kind", FILES)
def test_damaged_start(kind: str) -> None:
    """The same where every parser looks first: with a piece of the first 64 bytes cut out, doubled or reversed."""
    chance = np.random.default_rng(list(kind.encode()))
    head, tail = FILES[kind][:64], FILES[kind][64:]
    for _ in range(100):
        begin, end = sorted(chance.integers(65, size=2))
        before, piece, after = head[:begin], head[begin:end], head[end:]
        for damaged in (before + after, before + piece + piece + after, before + piece[::-1] + after):
            rejection(damaged + tail)


def claims(kind: str, width: int, height: int) -> bytes:
    """A file whose header claims this size and that ends where the pixels should begin."""
    if kind == "png":
        return png(width, height, 8, 2, [])
    if kind == "gif":
        return b"GIF89a" + struct.pack("<HH3xc4H2B", width, height, b",", 0, 0, 8, 8, 0, 2)
    if kind == "gif frame":
        return b"GIF89a" + struct.pack("<HH3xc4H2B", 8, 8, b",", 0, 0, width, height, 0, 2)
    if kind == "bmp":
        return b"BM" + struct.pack("<4I2i2H24x", 54, 0, 54, 40, width, height, 1, 24)
    if kind == "webp":
        data = FILES["animated webp"]
        size = data.index(b"VP8X") + 12
        return data[:size] + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little") + data[size + 6 :]
    data = FILES["jpeg"]
    size = data.index(b"\xff\xc0") + 5
    scan = data.index(b"\xff\xda")
    return data[:size] + struct.pack(">HH", height, width) + data[size + 4 : scan + 14]


@pytest.mark.parametrize("kind", ["png", "gif", "gif frame", "bmp", "jpeg", "webp"])
def test_claimed_size(kind: str) -> None:
    """A small file that claims to be huge is rejected by its header alone.

    It holds no such pixels, so a decoder would have called it broken, as it does below the limit.
    """
    # The lesser first: without the limit it would fail here, and not by taking all of the machine's memory.
    assert rejection(claims(kind, 50_000, 30)) == "is 50000 x 30 pixels; at most 1,000,000 are taken"
    side = 10_000 if kind == "webp" else 50_000  # libwebp reserves the memory, unused, as it reads the header
    assert rejection(claims(kind, side, side)) == f"is {side} x {side} pixels; at most 1,000,000 are taken"
    below = rejection(claims(kind, 900, 900))
    assert below is None if kind == "webp" else below is not None and "truncated or broken" in below


def test_zipped_text_in_png() -> None:
    """A PNG whose comment unpacks to a thousand times its size is rejected."""
    whole = FILES["png"]
    head = len(PNG_SIGNATURE) + 25
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000), 9))
    assert len(bomb) < 100_000
    assert rejection(whole[:head] + bomb + whole[head:]) is not None


def test_limits_are_what_is_still_taken() -> None:
    """A file of exactly the most bytes and pixels is taken; one more of either is rejected with both numbers."""
    data = save(Image.fromarray(blocks(4, 5, 1)), "PNG")
    at_limit = ImageDecoder(8, 8, Resize.NEAREST, max_bytes=len(data), max_pixels=20)
    assert rejection(data, at_limit) is None
    assert rejection(data + b"\0", at_limit) == f"holds {len(data) + 1} bytes; at most {len(data)} are taken"
    taller = save(Image.new("RGB", (3, 7)), "PNG")
    fewer = ImageDecoder(8, 8, Resize.NEAREST, max_bytes=1000, max_pixels=20)
    assert rejection(taller, fewer) == "is 3 x 7 pixels; at most 20 are taken"


def test_too_many_raw_pixels() -> None:
    """The limit of pixels holds for raw images too, and names their field."""
    small = ImageDecoder(8, 8, Resize.NEAREST, max_bytes=1, max_pixels=20)
    with pytest.raises(LookalikeError, match="is 3 x 7 pixels; at most 20 are taken") as caught:
        small.read(RawImage(np.zeros((7, 3, 3), np.uint8), None, "products[1].images[0].rgb"))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.field == "products[1].images[0].rgb"


QUIET = """
import sys
from lookalike_server.domain.inference import EncodedImage, Resize
from lookalike_server.inference.image_decoding import ImageDecoder
ImageDecoder(8, 8, Resize.NEAREST, 1_000_000, 1_000_000).read(EncodedImage(sys.stdin.buffer.read(), None, "image"))
"""


def test_faults_in_a_image_are_not_printed() -> None:
    """What Pillow has to say of a caller's broken EXIF does not reach the server's stderr.

    Python would also remember each such text for as long as the process lives, and callers choose them.
    """
    maker_beyond_the_end = b"Exif\0\0MM\0*" + struct.pack(">IHHHII", 8, 1, 0x010F, 2, 65535, 65535)
    data = save(Image.new("RGB", (8, 8)), "PNG", exif=maker_beyond_the_end)
    ran = subprocess.run([sys.executable, "-c", QUIET], input=data, capture_output=True, check=True)
    assert ran.stderr == b""
