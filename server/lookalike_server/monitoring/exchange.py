"""One request and its response as bytes, by h11; without sockets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus

import h11

MAX_HEAD_BYTES = 8192
"""The most bytes of a request's first line and headers."""

_VERSIONS = (b"1.0", b"1.1")
_METHODS = ("GET", "HEAD")
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """A GET or HEAD request: its path without the query, and its headers by lower-case name, repeated ones joined."""

    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """A response; a `str` as its body is text."""

    status: HTTPStatus
    body: bytes | str
    content_type: str = _TEXT
    headers: Mapping[str, str] = field(default_factory=dict)


class Exchange:
    """Parses what a client sends until the request is complete, and writes the one response."""

    def __init__(self) -> None:
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._received = 0
        self._is_head = False

    def receive(self, data: bytes) -> Request | Response | None:
        """Take bytes; return the request, or the response to one that is rejected, or None where more must come."""
        self._received += len(data)
        try:
            self._connection.receive_data(data)
            event = self._connection.next_event()
        except h11.RemoteProtocolError as error:
            return _rejection(HTTPStatus(error.error_status_hint))
        if not isinstance(event, h11.Request):
            return None
        body_begun, _ = self._connection.trailing_data
        if self._received - len(body_begun) > MAX_HEAD_BYTES:  # h11 bounds only what it has to keep
            return _rejection(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if event.http_version not in _VERSIONS:
            return _rejection(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        self._is_head = event.method == b"HEAD"
        if event.method.decode("ascii") not in _METHODS:
            return Response(
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"only {' and '.join(_METHODS)} are served here\n",
                headers={"Allow": ", ".join(_METHODS)},
            )
        headers: dict[str, str] = {}
        for raw_name, value in event.headers:
            name, text = raw_name.decode("ascii"), value.decode("latin-1")
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
        return Request(_path(event.target.decode("ascii")), headers)

    def respond(self, response: Response) -> bytes:
        """Return the bytes of the response, after which the connection is to be closed."""
        body = response.body.encode() if isinstance(response.body, str) else response.body
        head = h11.Response(
            status_code=response.status,
            reason=response.status.phrase.encode(),
            headers=[
                ("Content-Type", response.content_type),
                ("Content-Length", str(len(body))),
                ("Date", formatdate(usegmt=True)),
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
                ("Connection", "close"),
                *response.headers.items(),
            ],
        )
        sent = self._connection.send(head) or b""
        return sent if self._is_head else sent + (self._connection.send(h11.Data(body)) or b"")


def _path(target: str) -> str:
    """Return the path of a target, which for proxies is a whole URL."""
    if target.lower().startswith("http://"):
        target = f"/{target.split('/', 3)[3]}" if target.count("/") > 2 else "/"
    return target.partition("?")[0]


def _rejection(status: HTTPStatus) -> Response:
    if status is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
        return Response(status, f"the request's head is larger than {MAX_HEAD_BYTES} bytes\n")
    return Response(status, "this is not HTTP/1.1\n")
