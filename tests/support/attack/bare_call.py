"""One call with any bytes as its body, over a connection of its own that keeps to HTTP/2."""

from __future__ import annotations

from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset, TrailersReceived

from support.attack.peer import MAX_FRAME, ConnectionClosedError, Peer, call_fields


def status_of(
    address: str, method: str, body: bytes, metadata: tuple[tuple[str, str], ...] = (), *, timeout: str = ""
) -> str:
    """Send a call to its end, unless the server ends it before, and return its gRPC status: "0" is OK.

    A call that the server resets ends as "reset", one whose connection it closes as "closed".
    """
    peer = Peer(address)
    peer.socket.settimeout(120)
    connection = peer.connection
    stream = connection.get_next_available_stream_id()
    at, status = 0, ""
    try:
        connection.send_headers(stream, call_fields(method, metadata, timeout))
        while not status:
            while at < len(body) and (room := min(connection.local_flow_control_window(stream), MAX_FRAME)):
                connection.send_data(stream, body[at : at + room], end_stream=at + room >= len(body))
                at += room
                peer.write(connection.data_to_send())
            peer.write(connection.data_to_send())
            for event in peer.events():
                if isinstance(event, DataReceived):
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                status = status or _status(event)
    except ConnectionClosedError:
        return status or "closed"
    finally:
        peer.close()
    return status


def _status(event: Event) -> str:
    if isinstance(event, ResponseReceived | TrailersReceived):
        return dict(event.headers or ()).get(b"grpc-status", b"").decode()
    if isinstance(event, StreamReset | StreamEnded):
        return "reset"
    return ""
