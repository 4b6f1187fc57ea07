"""The access log: every call is reported to the observer when it ends, with its code, duration and request id."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

from lookalike_server.domain.events import CallCompleted, Observer
from lookalike_server.rpc.call_context import RECORD, CallRecord, Context
from lookalike_server.rpc.interceptors.base import Behavior, CallInterceptor, Method


class AccessLogInterceptor(CallInterceptor):
    """Records what the call brought, sends its request id back, and reports the call; the outermost interceptor."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self._observer = observer

    async def intercept(self, method: Method, proceed: Behavior, request: Any, context: Context) -> Any:
        arrived = time.monotonic()
        metadata = tuple(context.invocation_metadata() or ())
        record = CallRecord(metadata, _request_id(metadata))
        RECORD.set(record)
        context.set_trailing_metadata((("x-request-id", record.request_id),))
        try:
            return await proceed(request, context)
        finally:
            seconds = time.monotonic() - arrived
            self._observer(CallCompleted(method.name, record.code, seconds, record.request_id, record.fault))


def _request_id(metadata: Sequence[tuple[str, str | bytes]]) -> str:
    """Return the caller's own x-request-id where it is short and printable, else a new one."""
    given = next((str(value) for key, value in metadata if key == "x-request-id"), "")
    usable = given.isascii() and given.isprintable() and 0 < len(given) <= 128
    return given if usable else f"{random.getrandbits(128):032x}"
