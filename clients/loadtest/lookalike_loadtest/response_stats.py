"""Reads the stats of an answer without parsing the answer."""

from __future__ import annotations

from typing import NamedTuple

from google.protobuf.message import DecodeError

from lookalike.v1 import response_stats_pb2, search_service_pb2
from lookalike.vector_codec import LENGTH_DELIMITED, decode_varint

_RESULT, _STATS = (
    search_service_pb2.SearchResponse.NEIGHBORS_FIELD_NUMBER,  # and EmbedResponse's `embedding`
    search_service_pb2.SearchResponse.STATS_FIELD_NUMBER,  # of the same number in EmbedResponse
)


class ResponseDetails(NamedTuple):
    """The stats of an answer (stages in microseconds), and how many entries it has."""

    decode: int
    queue: int
    inference: int
    search: int
    total: int
    batch_size: int
    cache_hit: int
    entries: int


def read_details(answer: bytes) -> ResponseDetails | None:
    """Read the stats of an EmbedResponse or a SearchResponse; its neighbors (or the embedding) are stepped over.

    Return None where the answer has another form than this client knows.
    """
    at, entries, stats = 0, 0, b""
    try:
        while at < len(answer):
            tag, at = decode_varint(answer, at)
            if tag & 7 != LENGTH_DELIMITED:
                return None
            size, at = decode_varint(answer, at)
            if tag >> 3 == _RESULT:
                entries += 1
            elif tag >> 3 == _STATS:
                stats = answer[at : at + size]
            at += size
        read = response_stats_pb2.ResponseStats.FromString(stats)
    except (IndexError, DecodeError):
        return None
    stages = (read.decode_us, read.queue_us, read.inference_us, read.search_us, read.total_us)
    return ResponseDetails(*stages, read.batch_size, int(read.cache_hit), entries)
