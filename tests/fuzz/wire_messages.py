"""Strategies for messages in protobuf's wire format: of known fields, of others, damaged, and many times over."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from google.protobuf.descriptor import Descriptor
from hypothesis import strategies as st

from lookalike.vector_codec import encode_varint, field_header
from lookalike_server.rpc.message_limits import methods

SEEDS = Path(__file__).with_name("seeds")
LONGEST = 400_000  # bytes of a message: above what needs no look, and quick to parse

_TYPES = {name.split("/")[2]: method.input_type for name, method in methods()}
_VARINTS = st.integers(0, 300).map(encode_varint) | st.sampled_from(
    [b"\x80\x00", b"\xff" * 4 + b"\x0f", b"\xff" * 9 + b"\x01", b"\xff" * 10 + b"\x01", b"\x80" * 20]
)


def seeds() -> list[tuple[str, bytes]]:
    """Return the committed messages, each with its method's name: what was expensive or wrong once."""
    return [(path.name.split(".")[0], path.read_bytes()) for path in sorted(SEEDS.glob("*.bin"))]


def type_of(method: str) -> Descriptor:
    """Return the type of a method's request."""
    return _TYPES[method]


@lru_cache(64)
def fields(message: Descriptor, depth: int = 6) -> st.SearchStrategy[bytes]:
    """Return a strategy for fields of this type, one after another, most of them known."""
    if depth == 0:
        return st.just(b"")
    kinds: list[st.SearchStrategy[bytes]] = [_any_field()]
    for field in message.fields:
        number = field.number
        if field.message_type is not None:
            inside = st.deferred(lambda inner=field.message_type: fields(inner, depth - 1))  # type: ignore[misc]
            kinds.append(st.builds(_delimited, st.just(number), inside))
        else:
            kinds.append(st.builds(_delimited, st.just(number), st.binary(max_size=12)))
            kinds.append(st.builds(bytes.__add__, st.just(encode_varint(number << 3)), _VARINTS))
            kinds.append(st.builds(bytes.__add__, st.just(encode_varint(number << 3 | 5)), st.binary(max_size=4)))
            kinds.append(st.builds(_delimited, st.just(number), st.integers(0, 5000).map(bytes)))
    return st.lists(st.one_of(kinds), max_size=4).map(b"".join)


@st.composite
def messages(draw: st.DrawFn) -> tuple[str, bytes]:
    """Draw a method's name and bytes for it: a seed or fields, repeated, and perhaps with a few bytes changed."""
    method, data = draw(st.sampled_from(seeds()) | st.sampled_from(sorted(_TYPES)).map(lambda name: (name, b"")))
    data += draw(fields(type_of(method)))
    data = _changed(draw, data)
    if data:
        data *= min(draw(st.sampled_from([1, 1, 1, 2, 33, 1000, 70_000])), max(1, LONGEST // len(data)))
    return method, _changed(draw, data)


def _changed(draw: st.DrawFn, data: bytes) -> bytes:
    if not draw(st.booleans()):
        return data
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + 5)))
    return data[:start] + draw(st.binary(max_size=5)) + data[end:]


def _any_field() -> st.SearchStrategy[bytes]:
    tag = st.builds(lambda number, wire: encode_varint(number << 3 | wire), st.integers(0, 20), st.integers(0, 7))
    return st.builds(bytes.__add__, tag, _VARINTS | st.binary(max_size=10))


def _delimited(number: int, inside: bytes) -> bytes:
    return field_header(number, len(inside)) + inside
