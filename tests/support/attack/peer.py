"""A client of HTTP/2 that is free to misbehave: h2 opens the connection, frames of any kind follow."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event, RemoteSettingsChanged
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import DataFrame, Frame, HeadersFrame

EMBED = "/lookalike.v1.EmbeddingService/Embed"
TIMEOUT_SECONDS = 10
MAX_FRAME = 16_384


class ConnectionClosedError(Exception):
    """The server closed the connection, or reads nothing any more."""


class Peer:
    """One connection; `send` puts any frames on it, in any order."""

    def __init__(
        self, address: str, settings: Mapping[SettingCodes | int, int] | None = None, source: str = "127.0.0.1"
    ) -> None:
        """Connect and send the preface.

        Raises:
            ConnectionClosedError: The server took no connection.
        """
        host, _, port = address.rpartition(":")
        try:
            self.socket = socket.create_connection(
                (host, int(port)), timeout=TIMEOUT_SECONDS, source_address=(source, 0)
            )
        except OSError as error:
            raise ConnectionClosedError(str(error)) from None
        self.connection = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.next_stream = 1
        self.connection.local_settings.update(settings or {})
        self.connection.initiate_connection()
        try:
            self.write(self.connection.data_to_send())
            # Most limits hold only from the acknowledgment on.
            while not any(isinstance(event, RemoteSettingsChanged) for event in self.events()):
                pass
        except ConnectionClosedError:
            self.socket.close()
            raise

    def events(self) -> list[Event]:
        """Wait for bytes of the server, and acknowledge and return what they say.

        Raises:
            ConnectionClosedError: The server closed the connection, or sent nothing for long.
        """
        try:
            received = self.socket.recv(1 << 16)
        except OSError as error:
            raise ConnectionClosedError(str(error)) from None
        if not received:
            raise ConnectionClosedError("the server closed the connection")
        events = self.connection.receive_data(received)
        self.write(self.connection.data_to_send())
        return events

    def write(self, data: bytes) -> None:
        """Send bytes.

        Raises:
            ConnectionClosedError: The server closed the connection, or takes no more bytes.
        """
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise ConnectionClosedError(str(error)) from None

    def send(self, frames: Iterable[Frame]) -> None:
        """Send frames."""
        self.write(b"".join(frame.serialize() for frame in frames))

    def open_stream(self) -> int:
        """Return the id of another stream, of which nothing has been sent yet."""
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        return stream

    def headers(
        self, stream: int, method: str = EMBED, metadata: tuple[tuple[str, str], ...] = (), *, timeout: str = ""
    ) -> HeadersFrame:
        """Make the header frame of a call; `timeout` is as on the wire (1S)."""
        return HeadersFrame(stream, header_block(method, metadata, timeout), flags=["END_HEADERS"])

    def receive(self) -> bytes:
        """Return what the server has sent, without waiting for more.

        Raises:
            ConnectionClosedError: The server closed the connection.
        """
        received = bytearray()
        self.socket.setblocking(False)
        try:
            while data := self.socket.recv(1 << 16):
                received += data
        except BlockingIOError:
            return bytes(received)
        except OSError as error:
            raise ConnectionClosedError(str(error)) from None
        finally:
            self.socket.settimeout(TIMEOUT_SECONDS)
        raise ConnectionClosedError("the server closed the connection")

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()


def call_fields(method: str, metadata: tuple[tuple[str, str], ...] = (), timeout: str = "") -> list[tuple[str, str]]:
    """Return the header fields of a call."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *((("grpc-timeout", timeout),) if timeout else ()),
        *metadata,
    ]


@lru_cache
def header_block(method: str, metadata: tuple[tuple[str, str], ...] = (), timeout: str = "") -> bytes:
    """Encode the headers of a call, without the table, so that they are the same bytes on every connection."""
    encoder = Encoder()
    encoder.header_table_size = 0
    encoded: bytes = encoder.encode(call_fields(method, metadata, timeout), huffman=False)
    return encoded.removeprefix(b"\x20")  # the change of the table's size, which only the first block may have


def message(body: bytes, *, compressed: bool = False) -> bytes:
    """Prefix a gRPC message with its length."""
    return struct.pack(">?I", compressed, len(body)) + body


def data(stream: int, body: bytes, *, end: bool = False) -> list[DataFrame]:
    """Make the DATA frames of these bytes."""
    frames = [DataFrame(stream, body[at : at + MAX_FRAME]) for at in range(0, max(1, len(body)), MAX_FRAME)]
    if end:
        frames[-1].flags.add("END_STREAM")
    return frames
