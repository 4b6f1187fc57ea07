"""Opens a catalog's CSV as text: UTF-8, UTF-16 and any encoding that is named, also compressed with gzip."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path

from lookalike_client.transfer.catalog_error import CatalogError

_MAX_LINE = 64 * 1024 * 1024
"""The longest line in characters, so that a file without lines cannot take all memory."""

_GZIP = b"\x1f\x8b"
_OTHER_FILES = {
    b"PK\x03\x04": "an Excel workbook (.xlsx) or another zip archive; save the sheet as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "an Excel workbook (.xls); save the sheet as CSV UTF-8",
    b"PAR1": "a Parquet file; write a CSV",
    b"BZh": "compressed with bzip2; decompress it, or compress it with gzip",
    b"\xfd7zXZ": "compressed with xz; decompress it, or compress it with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; decompress it, or compress it with gzip",
    b"%PDF": "a PDF; write a CSV",
}


def read_lines(path: Path, encoding: str | None = None) -> Iterator[str]:
    """Yield the lines of a text file with their ends.

    Args:
        path: A regular file, which may be compressed with gzip.
        encoding: Its encoding; None: UTF-16 where the file begins like it, else UTF-8, a byte order mark or not.

    Raises:
        CatalogError: It cannot be read, or is of another kind or encoding.
    """
    number = 0
    try:
        with _open_text(path, encoding) as file:
            while line := file.readline(_MAX_LINE):
                number += 1
                if number == 1:  # a mark that a named encoding leaves
                    line = line.removeprefix("\ufeff")
                if len(line) == _MAX_LINE:
                    raise CatalogError(f"{path} has more than {_MAX_LINE:,} characters in line {number}; is it a CSV?")
                yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CatalogError(f"{path} is damaged: its gzip data end or break near row {number + 1}") from error
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeError as error:
        remedy = (
            "name its encoding with --encoding"
            if encoding
            else "save it as CSV UTF-8, or name its encoding: --encoding cp1252 is what Excel writes on Windows"
        )
        reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
        raise CatalogError(f"{path} is not {encoding or 'UTF-8'} near row {number + 1}: {reason}; {remedy}") from error
    except LookupError as error:
        raise CatalogError(
            f"--encoding {encoding} is not known; for instance utf-8, utf-16, cp1252, shift_jis"
        ) from error


def _open_text(path: Path, encoding: str | None) -> TextIOWrapper:
    if path.exists() and not path.is_file():
        raise CatalogError(f"{path} is not a regular file, and is read more than once; write it to a file first")
    with path.open("rb") as file:
        first = file.read(8)
    compressed = first.startswith(_GZIP)
    if compressed:
        with gzip.open(path) as inner:
            first = inner.read(8)
    for magic, kind in _OTHER_FILES.items():
        if first.startswith(magic):
            raise CatalogError(f"{path} is not a CSV but {kind}")
    encoding = encoding or _encoding_of(first)
    if compressed:
        return TextIOWrapper(gzip.open(path), encoding, newline="")
    return path.open(encoding=encoding, newline="")


def _encoding_of(first: bytes) -> str:
    """Return the encoding of a text by its first bytes."""
    if first.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    # a header is ASCII, whose every other byte is 0 in UTF-16
    match [byte == 0 for byte in first[:4]]:
        case [False, True, False, True]:
            return "utf-16-le"
        case [True, False, True, False]:
            return "utf-16-be"
    return "utf-8-sig"
