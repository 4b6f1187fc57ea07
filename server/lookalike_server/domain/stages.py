"""Timing the stages of calls whose traces are recorded; of the others it costs nothing to speak of."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from lookalike_server.domain.calls import Call, TraceContext
from lookalike_server.domain.events import Observer, StageTraced

_NOT_TRACED = nullcontext()


class _Stage:
    __slots__ = ("_name", "_observer", "_started", "_trace")

    def __init__(self, name: str, trace: TraceContext, observer: Observer) -> None:
        self._name = name
        self._trace = trace
        self._observer = observer
        self._started = time.monotonic()

    def __enter__(self) -> None:
        """Do nothing: it has begun."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        seconds = time.monotonic() - self._started
        self._observer(StageTraced(self._name, self._trace, self._started, seconds, error))


def stage(name: str, call: Call, observer: Observer | None) -> AbstractContextManager[None]:
    """Report as `StageTraced` how long the block takes, where the call's trace is recorded."""
    return _NOT_TRACED if call.trace is None or observer is None else _Stage(name, call.trace, observer)
