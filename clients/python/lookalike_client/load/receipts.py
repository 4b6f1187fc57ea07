"""Reads what an answer cost without reading the answer."""

from __future__ import annotations

from typing import NamedTuple

from google.protobuf.message import DecodeError

from lookalike.v1 import receipt_pb2, search_service_pb2

_RESULT, _RECEIPT = (
    search_service_pb2.SearchResponse.NEIGHBORS_FIELD_NUMBER,  # and EmbedResponse's `embedding`
    search_service_pb2.SearchResponse.RECEIPT_FIELD_NUMBER,  # of the same number in EmbedResponse
)
_LENGTH_DELIMITED = 2


class Cost(NamedTuple):
    """A receipt's figures (stages in microseconds), and how many entries the answer has."""

    decode: int
    queue: int
    inference: int
    search: int
    total: int
    batch_size: int
    cache_hit: int
    entries: int


def cost_of(answer: bytes) -> Cost | None:
    """What an EmbedResponse or a SearchResponse cost: its neighbors (or the embedding) are stepped over.

    None where it has another form than this client knows.
    """
    at, entries, receipt = 0, 0, b""
    try:
        while at < len(answer):
            tag, at = _varint(answer, at)
            if tag & 7 != _LENGTH_DELIMITED:
                return None
            size, at = _varint(answer, at)
            if tag >> 3 == _RESULT:
                entries += 1
            elif tag >> 3 == _RECEIPT:
                receipt = answer[at : at + size]
            at += size
        read = receipt_pb2.Receipt.FromString(receipt)
    except (IndexError, DecodeError):
        return None
    stages = (read.decode_us, read.queue_us, read.inference_us, read.search_us, read.total_us)
    return Cost(*stages, read.batch_size, int(read.cache_hit), entries)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and where the next thing begins."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
