"""Messages between our own processes over an anonymous socket pair: many to a frame, a frame a turn of the event loop.

Pickle is safe here and only here: nobody but the processes of one server has an end of the socket.
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

from lookalike_server.domain import catalog, filters, inference, search
from lookalike_server.domain.errors import Code, LookalikeError, Resource, ServerError

LENGTH = struct.Struct("<Q")


class EngineError(Exception):
    """A fault of ours in the process with the model, as the text of its traceback."""


def portable(error: Exception) -> Exception:
    """The error as another process may have it."""
    if isinstance(error, LookalikeError | ServerError):
        return error
    return EngineError("".join(traceback.format_exception(error)))


def dumps(value: Any) -> bytes:
    """Pickle; several times as fast as the standard way with our dataclasses and arrays."""
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


def loads(data: bytes) -> Any:
    """Read back what `dumps` wrote; arrays are read-only."""
    return pickle.loads(data)  # noqa: S301 - of a process of our own


class IpcConnection(asyncio.Protocol):
    """One end: `send` here is `heard` there, in order."""

    def __init__(self, heard: Callable[[Any], None], lost: Callable[[], None]) -> None:
        self._heard = heard
        self._lost = lost
        self._transport: asyncio.WriteTransport | None = None
        self._out: list[Any] = []
        self._in = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.WriteTransport", transport)  # a socket's is, but uvloop's does not say so

    def send(self, message: Any) -> None:
        """Send with whatever else is sent in this turn; nothing happens where the other end is gone."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(message)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is None or self._transport.is_closing():
            return
        try:
            frame = dumps(out)
        except Exception:
            self._transport.abort()  # rather than have callers wait for what was never sent
            raise
        self._transport.write(LENGTH.pack(len(frame)) + frame)

    def data_received(self, data: bytes) -> None:
        """Take in a part of the stream."""
        self._in += data
        while len(self._in) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._in)[0]
            if len(self._in) < end:
                return
            frame = bytes(self._in[LENGTH.size : end])
            del self._in[:end]
            for message in loads(frame):
                self._heard(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell; the other end has closed, or has died."""
        del exc
        self._transport = None
        self._lost()


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
    code: Code, message: str, field: str | None, resource: Resource | None, retry_after: float | None
) -> LookalikeError:
    return LookalikeError(code, message, field=field, resource=resource, retry_after=retry_after)


_DATA = (*(value for module in (catalog, filters, inference, search) for value in vars(module).values()), Resource)

_REDUCERS: dict[type, Reducer] = {cls: _by_fields(cls) for cls in _DATA if isinstance(cls, type) and is_dataclass(cls)}
_REDUCERS |= {
    np.ndarray: lambda array: (_array, (array.tobytes(), array.dtype.str, array.shape)),
    LookalikeError: lambda error: (
        _lookalike_error,
        (error.code, error.message, error.field, error.resource, error.retry_after),
    ),
    ServerError: lambda error: (ServerError, (error.told,)),
}


class _Pickler(pickle.Pickler):
    dispatch_table = _REDUCERS
