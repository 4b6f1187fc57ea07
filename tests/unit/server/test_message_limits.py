"""The limits of each method's request message: complete, documented, and with room for all that the API promises."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from lookalike.vector_codec import field_header
from lookalike_server.domain.catalog import MAX_ATTRIBUTES
from lookalike_server.rpc.message_limits import BULK_FIELDS, LIST_BYTES, MIB, message_limits
from lookalike_server.rpc.request_bytes import checked
from lookalike_server.rpc.server import SERVICES
from lookalike_server.rpc.v1.fields_from_pb import MAX_IMAGES, MAX_ITEMS, MAX_NAME_BYTES, MAX_TEXT_BYTES
from lookalike_server.rpc.v1.query_from_pb import MAX_FILTERS
from support.parser_memory import parsing
from support.paths import ROOT
from support.wire_bytes import MESSAGES, nested

MAX_MESSAGE, MAX_IMAGE = 64 * MIB, 10 * MIB
LIMITS = message_limits(MAX_MESSAGE, MAX_IMAGE)

PIXELS = bytes(MAX_MESSAGE)


def names(field: int, count: int, size: int = MAX_NAME_BYTES) -> bytes:
    """Write as many different names as are allowed."""
    return b"".join(nested(field, inside=b"%0*d" % (size, position)) for position in range(count))


def attributes(field: int, count: int, size: int = MAX_TEXT_BYTES) -> bytes:
    """Write attributes with names of the greatest length."""
    value = nested(2, inside=b"v" * size)
    return b"".join(nested(field, inside=names(1, 1) + value) for _ in range(count))


def filled(prefix: bytes, field: int, total: int) -> bytes:
    """Add a field, so that the message has as many bytes."""
    header = field_header(field, total - len(prefix) - 5)
    return prefix + header + bytes(total - len(prefix) - len(header))


def product(images: bytes, attribute_bytes: int) -> bytes:
    """Write a product with all that one may have, except for its texts' length."""
    fields = b"".join(nested(number, inside=b"0123456789") for number in (1, 2, 3, 4))
    return nested(1, inside=fields + attributes(5, MAX_ATTRIBUTES, attribute_bytes) + images)


REGION = nested(3, inside=b"".join(bytes([number << 3 | 1]) + bytes(8) for number in (1, 2, 3, 4)))
RAW = nested(2, inside=b"\x08\x01\x10\x01" + nested(3, inside=b"rgb"))
PARAMETERS = nested(4, inside=names(1, 1, 20) + nested(2, inside=b"\x10\x01"))


RAW_IMAGES = nested(6, inside=RAW + REGION) * MAX_IMAGES
FILES = nested(6, inside=nested(1, inside=b"file") + REGION) * MAX_IMAGES
VECTORS = nested(7, 1, inside=bytes(4 * 8)) * MAX_IMAGES
WIDE_VECTORS = nested(7, 1, inside=bytes(4 * 100_352))


def filters() -> bytes:
    """Write as many filters as are allowed, with as many values."""
    return nested(7, inside=names(1, 1) + nested(3, inside=names(1, MAX_ITEMS, 500))) * MAX_FILTERS


def tensor() -> bytes:
    """Write a tensor with as many image files as are allowed, and with parameters."""
    return nested(5, inside=PARAMETERS * 64 + nested(5, inside=nested(8, inside=bytes(60_000)) * MAX_ITEMS))


LARGEST: list[tuple[str, Callable[[], bytes]]] = [
    ("UpsertProducts", lambda: product(RAW_IMAGES, 500) * MAX_ITEMS),
    ("UpsertProducts", lambda: product(FILES, 4) * MAX_ITEMS),
    ("UpsertProducts", lambda: product(VECTORS, 500) * MAX_ITEMS),
    ("UpsertProducts", lambda: product(nested(7, 1, inside=bytes(4 * 4096)), 100) * MAX_ITEMS),
    ("ImportProducts", lambda: product(nested(6, 1, inside=PIXELS[: 7 * MIB]) * MAX_IMAGES, MAX_TEXT_BYTES)),
    ("ImportProducts", lambda: product(WIDE_VECTORS * MAX_IMAGES, MAX_TEXT_BYTES)),
    ("UpdateAttributes", lambda: names(1, 1) + attributes(2, 64) + names(3, 64) + names(4, 1)),
    ("DeleteProducts", lambda: names(1, MAX_ITEMS) + names(2, 1)),
    ("Search", lambda: nested(3, inside=b"id") + names(4, 1) + filters() + names(9, 1)),
    ("SearchStream", lambda: names(1, 1) + nested(2, inside=nested(3, inside=b"id") + filters())),
    ("Search", lambda: nested(2, 1, inside=bytes(4 * 100_352)) + names(4, 1)),
    ("Embed", lambda: nested(1, 1, inside=PIXELS[:MAX_IMAGE])),
    ("Embed", lambda: nested(1, 2, 3, inside=PIXELS[: 4096 * 3072 * 3])),
    ("EmbedStream", lambda: names(1, 1) + nested(2, 2, 3, inside=PIXELS[: 4096 * 3072 * 3])),
    ("Search", lambda: nested(1, 2, 3, inside=PIXELS[: 4096 * 3072 * 3]) + names(4, 1)),
    ("ModelInfer", lambda: filled(nested(5, inside=names(1, 1, 5) + nested(3, inside=b"\1\2\3\4")), 7, MAX_MESSAGE)),
    ("ModelInfer", lambda: PARAMETERS * 64 + tensor()),
    ("ModelInfer", lambda: nested(5, 5, 4, inside=b"\xff\x01\x7f" * (100 * 224 * 224 * 3 // 2))),
    ("ListProducts", lambda: names(1, 1) + names(3, 1, 1000)),
    ("ExportProducts", lambda: names(1, 1) + names(2, 1)),
    ("GetProduct", lambda: names(1, 1)),
    ("ModelMetadata", lambda: names(1, 1) + names(2, 1)),
]


def full(method: str) -> str:
    """Return the full name of a method."""
    return next(name for name in LIMITS if name.endswith(f"/{method}"))


@pytest.mark.parametrize(("method", "make"), LARGEST)
def test_what_the_api_promises_passes(method: str, make: Callable[[], bytes]) -> None:
    """The most that the API promises, in as many fields and bytes as it takes, is accepted and parsed."""
    limits, data = LIMITS[full(method)], make()
    assert len(data) <= limits.max_bytes
    assert checked(data, limits) is data
    assert parsing(MESSAGES[full(method)], data)[0] is not None


def test_every_method_has_limits() -> None:
    """All methods of all services that the server has are in the table, each with its own request."""
    assert {name.split("/")[1] for name in LIMITS} == set(SERVICES)
    assert len(LIMITS) == 20
    for name, limits in LIMITS.items():
        assert MESSAGES[name].DESCRIPTOR is limits.message


def test_no_limit_is_above_that_of_all_messages() -> None:
    """A server that takes messages of a few bytes takes no larger ones by any method."""
    for limits in message_limits(1024, MAX_IMAGE).values():
        assert limits.max_bytes == 1024


def test_a_larger_image_file_may_be_sent() -> None:
    """A server that accepts image files of 50 MiB accepts the messages that they come in."""
    limits = message_limits(MAX_MESSAGE, 50 * MIB)
    assert limits[full("Embed")].max_bytes == limits[full("Search")].max_bytes == 51 * MIB


def test_only_bulk_takes_the_largest_messages() -> None:
    """64 MiB come only where several images or vectors do."""
    most = {name.split("/")[2] for name, limits in LIMITS.items() if limits.max_bytes == MAX_MESSAGE}
    assert most == {"UpsertProducts", "ImportProducts", "ModelInfer"}


def test_the_page_has_the_same_table() -> None:
    """docs/errors.md names each method with its limits."""
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8").split("## Message limits")[1]
    rows = re.findall(r"^\| (`.+?) \| ([^|]+) \| ([\d,]+) \|$", page, re.MULTILINE)
    documented: dict[str, tuple[Any, int]] = {}
    for methods, size, fields in rows:
        for method in re.findall(r"`(\w+)`", methods):
            documented[method] = (size.strip(), int(fields.replace(",", "")))
    assert documented == {
        name.split("/")[2]: (written(limits.max_bytes), limits.max_fields) for name, limits in LIMITS.items()
    }
    assert BULK_FIELDS == 131_072


def written(size: int) -> str:
    """Write a limit as the page does."""
    if size == MAX_MESSAGE:
        return "`max_message_bytes` (64 MiB)"
    return f"{size // LIST_BYTES} MiB" if size >= LIST_BYTES else f"{size // 1024} KiB"
