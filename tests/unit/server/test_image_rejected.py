"""Data that is not an image, broken or too large: always an error that names the field, never anything else."""

from __future__ import annotations

import base64
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.inference import EncodedImage, RawImage, Region, Resize
from lookalike_server.inference.image_decoding import ImageDecoder
from support.images import blocks, chunk, exif, heic, png, save, with_alpha

# Pillow warns of broken files; the server has these warnings off.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

DECODER = ImageDecoder(8, 8, Resize.BILINEAR, max_bytes=1_000_000, max_pixels=1_000_000)


def sample_files() -> dict[str, bytes]:
    """Write a valid file of every accepted kind, small enough to break at every byte."""
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
        "avif": save(image, "AVIF", exif=exif(6)),
        "transparent avif": save(with_alpha(image), "AVIF"),
        "animated avif": save(image, "AVIF", **frames),
        "heic": heic(image, exif=exif(6)),
        "heic of tiles": heic(image.resize((160, 130)), tile_size=64),
    }


FILES = sample_files()


def with_wrong_checksum(kind: bytes) -> bytes:
    """Write a PNG with a text and one bit of a chunk's checksum flipped."""
    text = chunk(b"tEXt", b"Comment\0made by hand")
    data = bytearray(FILES["png"][:33] + text + FILES["png"][33:])
    begin = data.index(kind)
    data[begin + 4 + int.from_bytes(data[begin - 4 : begin], "big")] ^= 1
    return bytes(data)


def rejection(data: bytes, decoder: ImageDecoder = DECODER, region: Region | None = None) -> str | None:
    """Return why a file is rejected, or None for an image; fail on any other outcome."""
    try:
        pixels = decoder.decode(EncodedImage(data, region, "query.image.encoded"))
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
    """The files that the other tests break are valid."""
    assert rejection(FILES[kind]) is None


def test_empty() -> None:
    """An empty file has an error of its own."""
    assert rejection(b"") == "is empty; send the bytes of an image file"


UNKNOWN = {
    "byte": b"\0",
    "zeros": b"\0" * 4096,
    "text": b"a text, not an image\n" * 20,
    "noise": np.random.default_rng(1).bytes(4096),
    "ppm": b"P6 2 2 255\n" + bytes(12),
    "wav": b"RIFF\x24\0\0\0WAVEfmt " + bytes(28),
} | {name: save(Image.new("RGB", (16, 16)), name) for name in ("TGA", "PCX")}

SEND = "send JPEG, PNG, WebP, AVIF, GIF or BMP"
JPEG = FILES["jpeg"]

OTHERS: dict[str, tuple[bytes, str]] = {
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n%%EOF\n", f"is PDF; {SEND}"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n", f"is PostScript; {SEND}"),
    "svg": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="8"/>', f"is SVG; {SEND}"),
    "tiff": (save(Image.new("RGB", (16, 16)), "TIFF"), f"is TIFF; {SEND}"),
    "ico": (save(Image.new("RGB", (16, 16)), "ICO"), f"is an icon (ICO); {SEND}"),
    "jpeg 2000": (save(Image.new("RGB", (16, 16)), "JPEG2000"), f"is JPEG 2000; {SEND}"),
    "heif of another codec": (
        b"\0\0\0\x14ftypmif1\0\0\0\0mif1",
        f"is HEIF with an image that is neither AV1 nor HEVC; {SEND}",
    ),
    "camera's raw file": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", f"is a camera's raw file (CR3); {SEND}"),
    "jpeg xl": (b"\xff\x0a\xfa\x7f\x01\x90\x08\x06\x01\0", f"is JPEG XL; {SEND}"),
    "video": (b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2", f"is a video; {SEND}"),
    "archive": (b"PK\x03\x04" + bytes(40), f"is a ZIP archive; {SEND}"),
    "base64": (base64.b64encode(JPEG), "is base64; send the bytes that it encodes"),
    "base64 in lines": (base64.encodebytes(FILES["png"]), "is base64; send the bytes that it encodes"),
    "data URL": (
        b"data:image/jpeg;base64," + base64.b64encode(JPEG),
        "is a data: URL; send the bytes that it encodes, without `data:...;base64,` and decoded",
    ),
    "URL": (
        b"https://cdn.example/shoe.jpg",
        "is a URL; send the bytes of the file, which the server does not fetch",
    ),
    "page": (
        b"<!DOCTYPE html><html><body>404</body></html>",
        "is an HTML page, perhaps the error of the server that the image came from; send the image",
    ),
    "jpeg xl in boxes": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20), f"is JPEG XL; {SEND}"),
    "jpeg 2000 code stream": (b"\xff\x4f\xff\x51" + bytes(20), f"is JPEG 2000; {SEND}"),
    "big tiff": (b"II+\0\x08\0\0\0" + bytes(20), f"is TIFF; {SEND}"),
    "base64 of avif": (base64.b64encode(FILES["avif"]), "is base64; send the bytes that it encodes"),
    "svg after a mark": (b"\xef\xbb\xbf<svg width='8'/>", f"is SVG; {SEND}"),
    "local URL": (b"file:///srv/shoe.jpg", "is a URL; send the bytes of the file, which the server does not fetch"),
}

BEFORE = "(a byte order mark, line ends or zeros); send the file as it is"
AS_TEXT = "its bytes were changed as those of a text are; read and send it as binary"

DAMAGED: dict[str, tuple[bytes, str]] = {
    "line end before": (b"\r\n" + JPEG, f"is a broken JPEG: 2 bytes before it {BEFORE}"),
    "byte order mark before": (b"\xef\xbb\xbf" + FILES["png"], f"is a broken PNG: 3 bytes before it {BEFORE}"),
    "both before": (b"\xef\xbb\xbf\r\n" + FILES["webp"], f"is a broken WebP: 5 bytes before it {BEFORE}"),
    "zeros before": (bytes(4) + FILES["gif"], f"is a broken GIF: 4 bytes before it {BEFORE}"),
    "line ends changed": (FILES["png"].replace(b"\r\n", b"\n"), f"is a broken PNG: {AS_TEXT}"),
    "decoded as UTF-8": (FILES["png"].decode("utf-8", "replace").encode(), f"is a broken PNG: {AS_TEXT}"),
    "jpeg decoded as UTF-8": (JPEG.decode("utf-8", "replace").encode(), f"is a broken JPEG: {AS_TEXT}"),
    "jpeg as Latin-1": (JPEG.decode("latin-1").encode(), f"is a broken JPEG: {AS_TEXT}"),
    "checksum of a text": (with_wrong_checksum(b"tEXt"), "is a broken PNG: bad header checksum in tEXt"),
    "checksum of the header": (with_wrong_checksum(b"IHDR"), "is a broken PNG: bad header checksum in IHDR"),
    "no header": (FILES["png"][:8] + FILES["png"][33:], "is a broken PNG: its header is truncated or invalid"),
    "half a png": (FILES["png"][:-300], "is a broken PNG: image file is truncated"),
    "half a jpeg": (JPEG[:-200], "is a broken JPEG: image file is truncated"),
    "half an avif": (FILES["avif"][:-40], "is a broken AVIF: it ends early"),
    "avif without boxes": (FILES["avif"][:40], "is a broken AVIF: "),
    "half a heic": (FILES["heic"][:-40], "is a broken HEIC: "),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_known_format_that_is_broken(kind: str) -> None:
    """The error names the format and what is wrong with the file, and nothing of the server's insides."""
    data, message = DAMAGED[kind]
    rejected = rejection(data)
    assert rejected is not None
    assert rejected.startswith(message)
    assert "0x" not in rejected


@pytest.mark.parametrize("data", UNKNOWN.values(), ids=UNKNOWN)
def test_not_an_image(data: bytes) -> None:
    """What nothing recognizes is answered with what is accepted, though Pillow reads more."""
    assert rejection(data) == "is not a JPEG, PNG, WebP, AVIF, GIF or BMP image"


@pytest.mark.parametrize("kind", OTHERS)
def test_another_format_is_named(kind: str) -> None:
    """The error says what came and what to do."""
    data, message = OTHERS[kind]
    assert rejection(data) == message


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_truncated_at_every_byte(kind: str) -> None:
    """A file that ends early is rejected, unless only data after the first image's pixels is missing."""
    data = FILES[kind]
    accepted = [length for length in range(len(data)) if rejection(data[:length]) is None]
    # Without a gap: the pixels were complete at the shortest.
    assert accepted == list(range(len(data) - len(accepted), len(data)))


@pytest.mark.parametrize(
    "kind", ["jpeg", "progressive jpeg", "cmyk jpeg", "png", "webp", "lossless webp", "bmp", "avif", "heic"]
)
def test_half_a_file(kind: str) -> None:
    """Half a file is always rejected."""
    data = FILES[kind]
    message = rejection(data[: len(data) // 2])
    assert message is not None
    assert "is a broken" in message or "is not a" in message


@pytest.mark.parametrize("kind", FILES)
def test_random_damage(kind: str) -> None:
    """Whatever bytes are changed, the result is an image or the error."""
    random = np.random.default_rng(list(kind.encode()))
    for _ in range(300):
        data = bytearray(FILES[kind])
        for _ in range(random.integers(1, 9)):
            data[random.integers(len(data))] = random.integers(256)
        rejection(bytes(data), region=Region(0.25, 0.25, 0.5, 0.5))


@pytest.mark.parametrize("kind", FILES)
def test_damaged_start(kind: str) -> None:
    """The same with a piece of the first 64 bytes, which every parser reads first, cut out, doubled or reversed."""
    random = np.random.default_rng(list(kind.encode()))
    head, tail = FILES[kind][:64], FILES[kind][64:]
    for _ in range(100):
        begin, end = sorted(random.integers(65, size=2))
        before, piece, after = head[:begin], head[begin:end], head[end:]
        for damaged in (before + after, before + piece + piece + after, before + piece[::-1] + after):
            rejection(damaged + tail)


def claims(kind: str, width: int, height: int) -> bytes:
    """Write a file whose header claims this size and that ends where the pixels should begin."""
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

    It has no such pixels, so a decoder would call it broken, as it does below the limit.
    """
    # The smaller first: without the limit the test would fail here, before it takes all of the machine's memory.
    assert rejection(claims(kind, 50_000, 30)) == "is 50000 x 30 pixels; send at most 1,000,000"
    side = 10_000 if kind == "webp" else 50_000  # libwebp reserves the memory, unused, when it reads the header
    assert rejection(claims(kind, side, side)) == f"is {side} x {side} pixels; send at most 1,000,000"
    below = rejection(claims(kind, 900, 900))
    assert below is None if kind == "webp" else below is not None and "is a broken" in below


def test_limits_are_inclusive() -> None:
    """A file of exactly the most bytes and pixels is accepted; one more of either is rejected with both numbers."""
    data = save(Image.fromarray(blocks(4, 5, 1)), "PNG")
    at_limit = ImageDecoder(8, 8, Resize.NEAREST, max_bytes=len(data), max_pixels=20)
    assert rejection(data, at_limit) is None
    assert rejection(data + b"\0", at_limit) == f"has {len(data) + 1} bytes; send at most {len(data)}"
    taller = save(Image.new("RGB", (3, 7)), "PNG")
    fewer = ImageDecoder(8, 8, Resize.NEAREST, max_bytes=1000, max_pixels=20)
    assert rejection(taller, fewer) == "is 3 x 7 pixels; send at most 20"


def test_too_many_raw_pixels() -> None:
    """The limit on pixels applies to raw images too, and the error has their field."""
    small = ImageDecoder(8, 8, Resize.NEAREST, max_bytes=1, max_pixels=20)
    with pytest.raises(LookalikeError, match="is 3 x 7 pixels; send at most 20") as caught:
        small.decode(RawImage(np.zeros((7, 3, 3), np.uint8), None, "products[1].images[0].rgb"))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.field == "products[1].images[0].rgb"


QUIET = """
import sys
from lookalike_server.domain.inference import EncodedImage, Resize
from lookalike_server.inference.image_decoding import ImageDecoder
ImageDecoder(8, 8, Resize.NEAREST, 1_000_000, 1_000_000).decode(EncodedImage(sys.stdin.buffer.read(), None, "image"))
"""


def test_pillow_warnings_are_not_printed() -> None:
    """Pillow's warnings about a caller's broken EXIF data do not reach the server's stderr.

    Python would also remember each such text for as long as the process lives, and callers choose them.
    """
    maker_beyond_the_end = b"Exif\0\0MM\0*" + struct.pack(">IHHHII", 8, 1, 0x010F, 2, 65535, 65535)
    data = save(Image.new("RGB", (8, 8)), "PNG", exif=maker_beyond_the_end)
    ran = subprocess.run([sys.executable, "-c", QUIET], input=data, capture_output=True, check=True)
    assert ran.stderr == b""
