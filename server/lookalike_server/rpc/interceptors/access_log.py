"""The access log: every call is reported to the observer when it ends, with its code, duration and request id."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import cast

from lookalike_server.domain.events import CallCompleted, CallRejected, CallStarted, Observer
from lookalike_server.domain.observing import receiver
from lookalike_server.rpc.call_context import CallRecord, Context
from lookalike_server.rpc.interceptors.handlers import Method

_TOKENS = ("lk_", "eyJ", "Bearer ", "bearer ")
"""How keys, JSON web tokens and whole headers begin."""


def begin(context: Context) -> CallRecord:
    """Record what the call brought."""
    arrived = time.monotonic()
    metadata = cast("tuple[tuple[str, str | bytes], ...]", context.invocation_metadata() or ())
    return CallRecord(arrived, metadata, _request_id(metadata))


def return_trailers(context: Context, record: CallRecord) -> None:
    """Send a call's request id and trace back, where it does not end by an error, which brings its own trailers."""
    context.set_trailing_metadata(record.trailers)


class CallReports:
    """What the observer gets of the calls of one method."""

    def __init__(self, observer: Observer, method: Method) -> None:
        self._method = method
        self._started = receiver(observer, CallStarted)
        self._rejected = receiver(observer, CallRejected)
        self._completed = receiver(observer, CallCompleted)

    def begin(self) -> None:
        """Report a call that begins."""
        if self._started is not None:
            self._started(CallStarted(self._method.name, self._method.kind))

    def end(self, record: CallRecord) -> None:
        """Report a call that has ended."""
        if record.rejection is not None and self._rejected is not None:
            self._rejected(CallRejected(self._method.name, record.rejection, record.trace))
        if self._completed is not None:
            seconds = time.monotonic() - record.arrived
            self._completed(
                CallCompleted(self._method.name, record.code, seconds, record.request_id, record.fault, record.trace)
            )


def _request_id(metadata: Sequence[tuple[str, str | bytes]]) -> str:
    """Return the caller's own x-request-id where it is short, printable and no token (it is logged), else a new one."""
    for key, value in metadata:
        if key == "x-request-id":
            given = str(value)
            if given.isascii() and given.isprintable() and 0 < len(given) <= 128 and not given.startswith(_TOKENS):
                return given
            break
    return f"{random.getrandbits(128):032x}"
