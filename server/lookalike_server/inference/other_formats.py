"""Names what came in place of an image that is accepted, so that the error says what to do about it."""

from __future__ import annotations

import re

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"%PDF-", "PDF"),
    (b"%!PS", "PostScript"),
    (b"8BPS", "Photoshop"),
    (b"\x00\x00\x01\x00", "an icon (ICO)"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\x93NUMPY", "a NumPy array"),
)

_BRANDS = {
    **dict.fromkeys((b"mif1", b"msf1", b"mif2"), "HEIF with an image that is neither AV1 nor HEVC"),
    **dict.fromkeys((b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"M4V ", b"qt  "), "a video"),
    b"crx ": "a camera's raw file (CR3)",
}
"""Major brands of files of the ISO base media format (ISO/IEC 14496-12, 4.3)."""

_BEFORE_IMAGE = re.compile(
    rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff|[\s\0])+"
    rb"(?=(?:(\xff\xd8\xff)|(\x89PNG\r\n\x1a\n)|(GIF8)|(RIFF....WEBP)))",
    re.DOTALL,
)
_KINDS = ("JPEG", "PNG", "GIF", "WebP")
_AS_TEXT: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\n\x1a\n", "PNG"),
    (b"\x89PNG\r\r\n\x1a\r\n", "PNG"),
    (b"\xef\xbf\xbdPNG", "PNG"),
    (b"\xc2\x89PNG", "PNG"),
    (b"\xef\xbf\xbd" * 3, "JPEG"),
    (b"\xc3\xbf\xc3\x98\xc3\xbf", "JPEG"),
)
"""How signatures begin once a program has read or written the file as text: other line ends, Latin-1 or UTF-8."""
_BASE64_STARTS = (b"/9j/", b"iVBORw0KGgo", b"R0lGOD", b"UklGR", b"Qk0", b"AAAA", b"SUkq", b"TU0AK")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_\-\s]{16,}={0,2}\s*\Z")
_LOOK_AT = 512

ACCEPTED = "JPEG, PNG, WebP, AVIF, GIF or BMP"
SEND = f"send {ACCEPTED}"
UNREAD_HEIC = f"is HEIC, which this server reads only where lookalike-server[heic] is installed; {SEND}"


def name_other(data: bytes) -> str | None:
    """Say what bytes are that are not an accepted image, and what to send; None where nothing is recognized."""
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return f"is {name}; {SEND}"
    if data[4:8] == b"ftyp" and (brand := _BRANDS.get(data[8:12])):
        return f"is {brand}; {SEND}"
    for start, kind in _AS_TEXT:
        if data.startswith(start):
            return f"is a broken {kind}: its bytes were changed as those of a text are; read and send it as binary"
    head = data[:_LOOK_AT]
    if before := _BEFORE_IMAGE.match(head):
        kind = next(kind for kind, found in zip(_KINDS, before.groups(), strict=True) if found)
        return (
            f"is a broken {kind}: {before.end()} bytes before it (a byte order mark, line ends or zeros); "
            "send the file as it is"
        )
    return _name_text(head.lstrip(b"\xef\xbb\xbf \t\r\n"), data)


def _name_text(head: bytes, data: bytes) -> str | None:
    lower = head.lower()
    if lower.startswith(b"data:"):
        return "is a data: URL; send the bytes that it encodes, without `data:...;base64,` and decoded"
    if lower.startswith((b"http://", b"https://", b"file://", b"s3://", b"gs://")):
        return "is a URL; send the bytes of the file, which the server does not fetch"
    if lower.startswith((b"<!doctype html", b"<html")):
        return "is an HTML page, perhaps the error of the server that the image came from; send the image"
    if b"<svg" in lower:
        return f"is SVG; {SEND}"
    if head.startswith(_BASE64_STARTS) and _BASE64.match(data[:65_536].rstrip()):
        return "is base64; send the bytes that it encodes"
    return None
