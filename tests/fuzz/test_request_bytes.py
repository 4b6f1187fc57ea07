"""Any bytes as a request, compressed or not, before they are parsed.

FUZZ_EXAMPLES sets how many of each kind; 1,000 by default.
"""

from __future__ import annotations

import gzip
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.wire_messages import messages, seeds, type_of
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.rpc.message_limits import MIB, MessageLimits, message_limits
from lookalike_server.rpc.request_bytes import checked
from lookalike_server.rpc.wire_scan import check_wire
from support.parser_memory import CAN_MEASURE, parsing
from support.raw_image_requests import REQUESTS, outcome
from support.wire_bytes import MESSAGES, nested, number

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "1000"))
LIMITS = {name.split("/")[2]: limits for name, limits in message_limits(64 * MIB, 10 * MIB).items()}
SMALL = {name: MessageLimits(limits.message, 100_000, limits.max_fields) for name, limits in LIMITS.items()}
CLASSES = {name.split("/")[2]: message for name, message in MESSAGES.items()}
SLACK = 64 * 1024  # bytes of a block of the parser that nothing is in yet

fuzz = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


def check_is_for_the_caller(error: LookalikeError) -> None:
    """Check that an error says what is wrong and what to do."""
    assert (error.code, error.field) == (Code.INVALID_ARGUMENT, "request")
    assert ";" in error.message or ":" in error.message  # what to do comes after it


def accepted(data: bytes, limits: MessageLimits) -> bytes | None:
    """Return the message to parse, or None where it is rejected as it should be."""
    try:
        return checked(data, limits)
    except LookalikeError as error:
        check_is_for_the_caller(error)
        return None


def check_against_the_parser(method: str, data: bytes, max_fields: int) -> None:
    """Check that what passes takes the memory that was predicted, and that what is called damaged is."""
    try:
        cost = check_wire(data, type_of(method), max_fields, 64 * MIB)
    except LookalikeError as error:
        check_is_for_the_caller(error)
        if "not the message" in error.message:
            assert parsing(CLASSES[method], data)[0] is None
        return
    assert cost.fields <= max_fields
    parsed, taken = parsing(CLASSES[method], data)
    if parsed is not None and CAN_MEASURE:
        assert taken <= cost.max_memory_bytes + SLACK


@fuzz
@given(messages(), st.sampled_from([10, 1000, 131_072]))
def test_what_passes_is_cheap_and_what_is_damaged_is_rejected(message: tuple[str, bytes], max_fields: int) -> None:
    """The parser takes no more memory than predicted, and never accepts what the walk calls damaged."""
    method, data = message
    check_against_the_parser(method, data, max_fields)
    passed = accepted(data, LIMITS[method])
    assert passed is None or passed is data or data.startswith(b"\x1f\x8b")


@pytest.mark.parametrize("times", [1, 3, 1000, 100_000])
@pytest.mark.parametrize(("method", "seed"), seeds())
def test_seeds(method: str, seed: bytes, times: int) -> None:
    """What was expensive or damaged once is bounded or rejected, as often as it is repeated."""
    data = seed * min(times, 4 * MIB // len(seed))
    check_against_the_parser(method, data, 131_072)
    accepted(data, LIMITS[method])


@fuzz
@given(messages(), st.integers(0, 9))
def test_what_was_compressed_comes_back_or_is_rejected(message: tuple[str, bytes], level: int) -> None:
    """A whole gzip member is its content, or too much."""
    method, content = message
    assert accepted(gzip.compress(content, level), SMALL[method]) in (None, content)


@fuzz
@given(messages(), st.integers(0, 9), st.data())
def test_damaged_gzip_is_bounded(message: tuple[str, bytes], level: int, data: st.DataObject) -> None:
    """Whatever became of compressed bytes on their way, no more comes out than the method takes."""
    method, content = message
    compressed = gzip.compress(content, level)
    start = data.draw(st.integers(2, len(compressed)))
    end = data.draw(st.integers(start, len(compressed)))
    changed = compressed[:start] + data.draw(st.binary(max_size=8)) + compressed[end:]
    passed = accepted(changed, SMALL[method])
    assert passed is None or len(passed) <= SMALL[method].max_bytes


COUNT = {"products": st.integers(1, 1000), "attributes": st.integers(0, 64), "images": st.integers(0, 8)}


@settings(fuzz, max_examples=max(1, EXAMPLES // 10))  # they are large
@given(st.fixed_dictionaries(COUNT), st.integers(1, 256), st.integers(0, 4096), st.integers(0, 40_000))
def test_what_may_be_stored_passes(counts: dict[str, int], name: int, value: int, image: int) -> None:
    """Products of all sizes and numbers that the API promises pass, up to the limit of a message."""
    entries = (
        nested(1, inside=b"%0*d" % (max(2, name), i)) + nested(2, inside=bytes(value))
        for i in range(counts["attributes"])
    )
    attributes = b"".join(nested(5, inside=entry) for entry in entries)
    pixels = nested(6, 2, inside=number(1, image) + number(2, 1) + nested(3, inside=bytes(image)))
    texts = b"".join(nested(field, inside=b"t" * name) for field in (1, 2, 3, 4))
    product = nested(1, inside=texts + attributes + pixels * counts["images"])
    data = product * min(counts["products"], 64 * MIB // len(product))
    assert checked(data, LIMITS["UpsertProducts"]) is data


@fuzz
@given(REQUESTS)
def test_requests_of_raw_pixels_read_as_by_the_generated_parser(data: bytes) -> None:
    """Whatever the bytes: the same pixels, or the same error."""
    assert outcome(data, generated=False) == outcome(data, generated=True)
