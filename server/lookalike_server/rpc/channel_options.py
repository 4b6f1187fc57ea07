"""The C core's limits on connections and on calls that nobody has taken yet.

All that happens before a handler sees a call is the core's work, so what a peer may make it hold is bounded here, by
channel arguments. Their effect is that of grpcio 1.85.1, read in its source and measured by tests/attack; what it
cannot bound is in deploy/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass

_MAX_PENDING_CALLS = 4_096
"""Calls that wait for the event loop, at 15 KB each without metadata. The core ends those beyond it as CANCELLED."""

_MAX_METADATA_BYTES = 16 * 1024

ChannelOption = tuple[str, int]


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a peer may hold before anybody asks who it is.

    Attributes:
        max_connections: Connections at once; the next one is closed as soon as it is opened.
        max_streams_per_connection: Calls at once on a connection. Ordinary clients queue what is beyond it.
        keepalive_seconds: Silence after which a peer is pinged; one that does not answer in 20 s is cut off.
        max_idle_seconds: Time without any call after which a connection is closed in good order.
        max_message_bytes: The largest message received or sent.
        shares_port: Whether other processes listen on this port too.
    """

    max_connections: int
    max_streams_per_connection: int
    keepalive_seconds: float
    max_idle_seconds: float
    max_message_bytes: int
    shares_port: bool = False


def channel_options(limits: ConnectionLimits) -> tuple[ChannelOption, ...]:
    """Return the channel arguments of our server."""
    streams = limits.max_streams_per_connection
    return (
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        ("grpc.max_send_message_length", limits.max_message_bytes),
        # Two servers sharing a port by accident would each see half of the writes.
        ("grpc.so_reuseport", int(limits.shares_port)),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        # This alone bounds a rapid reset: a call that was reset before the event loop took it stays allocated, and a
        # connection has as many of them as it may have streams and no more.
        ("grpc.max_concurrent_streams", streams),
        ("grpc.http.overload_protection", 1),
        # A call that has ended stays allocated for a moment. Without headroom for those the core rejects streams of
        # clients that keep to the limit (three of four of 3,000 calls at once on one connection).
        ("grpc.http2.max_deallocating_streams", streams),
        # Soft and hard are one: between the two the core ends calls at random.
        ("grpc.server.max_pending_requests", _MAX_PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING_CALLS),
        # The default of 30 s would end, again as CANCELLED, what a busy server takes after that; deadlines do better.
        ("grpc.server_max_unrequested_time_in_server", 3600),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
        # A peer that opens a connection and says nothing, or never acknowledges the limits above.
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.http2.settings_timeout", 10_000),
        # A peer that is gone, or never reads.
        ("grpc.keepalive_time_ms", round(1000 * limits.keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_connection_idle_ms", round(1000 * limits.max_idle_seconds)),
        # Clients may ping every 10 s, calls or not, as the keepalive of most can be set to; by default those that ping
        # more often than every 5 minutes would be cut off. Half of that, because a ping that the network delayed is
        # followed by one that comes early, and strikes add up while a stream is quiet. A flood ends its connection.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_ping_strikes", 2),
        # A compressed message of 41 KB becomes 2 GB. What arrives stays as it is; `decompression` knows bounds.
        ("grpc.per_message_decompression", 0),
    )
