"""Messages between the processes of one server, over a socket pair: one frame for all that is sent in a loop iteration.

Pickle is safe here and only here, because nobody but these processes has an end of the socket.
"""

from __future__ import annotations

import asyncio
import io
import pickle
import struct
import traceback
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from operator import attrgetter
from typing import Any, TypeAlias, cast

import numpy as np

from lookalike_server.domain import calls, catalog, filters, inference, search
from lookalike_server.domain.errors import Code, LookalikeError, Rejection, Resource, ServerError

LENGTH = struct.Struct("<Q")


class EngineError(Exception):
    """An unexpected exception in the engine process, as the text of its traceback."""


def picklable_error(error: Exception) -> Exception:
    """Convert an error to one that can be sent: those of the domain as they are, others as their traceback."""
    if isinstance(error, LookalikeError | ServerError):
        return error
    return EngineError("".join(traceback.format_exception(error)))


def dumps(value: Any) -> bytes:
    """Pickle a value, several times as fast as `pickle.dumps` for the domain's dataclasses and arrays."""
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


def loads(data: bytes) -> Any:
    """Unpickle what `dumps` wrote; arrays are read-only."""
    return pickle.loads(data)  # noqa: S301 - sent by a process of this server


class IpcConnection(asyncio.Protocol):
    """One end of a connection: what one end sends, the other's `on_message` gets, in order."""

    def __init__(self, on_message: Callable[[Any], None], on_disconnect: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_disconnect = on_disconnect
        self._transport: asyncio.WriteTransport | None = None
        self._out: list[Any] = []
        self._in = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's class does not derive from it

    def send(self, message: Any) -> None:
        """Send with whatever else is sent in this loop iteration; does nothing where the other end has closed."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(message)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is None or self._transport.is_closing():
            return
        try:
            frame = dumps(out)
        except Exception:
            self._transport.abort()  # or callers would wait for a reply to what was never sent
            raise
        self._transport.write(LENGTH.pack(len(frame)) + frame)

    def data_received(self, data: bytes) -> None:
        """Buffer data, and pass on each message of a complete frame."""
        self._in += data
        while len(self._in) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._in)[0]
            if len(self._in) < end:
                return
            frame = bytes(self._in[LENGTH.size : end])
            del self._in[:end]
            for message in loads(frame):
                self._on_message(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report that this end or the other one closed, or that the other process died."""
        del exc
        self._transport = None
        self._on_disconnect()


Reducer: TypeAlias = Callable[[Any], tuple[Callable[..., Any], tuple[Any, ...]]]


def _by_fields(cls: type) -> Reducer:
    names = [field.name for field in fields(cls)]
    if len(names) == 1:
        return lambda value: (cls, (getattr(value, names[0]),))
    get = attrgetter(*names)
    return lambda value: (cls, get(value))


def _array(data: bytes, dtype: str, shape: tuple[int, ...]) -> Any:
    return np.frombuffer(data, dtype).reshape(shape)


def _lookalike_error(
    code: Code,
    message: str,
    field: str | None,
    resource: Resource | None,
    retry_after: float | None,
    rejection: Rejection | None,
) -> LookalikeError:
    return LookalikeError(code, message, field=field, resource=resource, retry_after=retry_after, rejection=rejection)


_DATA = (
    *(value for module in (calls, catalog, filters, inference, search) for value in vars(module).values()),
    Resource,
)

_REDUCERS: dict[type, Reducer] = {cls: _by_fields(cls) for cls in _DATA if isinstance(cls, type) and is_dataclass(cls)}
_REDUCERS |= {
    np.ndarray: lambda array: (_array, (array.tobytes(), array.dtype.str, array.shape)),
    LookalikeError: lambda error: (
        _lookalike_error,
        (error.code, error.message, error.field, error.resource, error.retry_after, error.rejection),
    ),
    ServerError: lambda error: (ServerError, (error.public,)),
}


class _Pickler(pickle.Pickler):
    dispatch_table = _REDUCERS
