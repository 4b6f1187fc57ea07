"""Finds runs that failed without a word: OpenVINO calls no Python callback where a run raises."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from lookalike_server.domain.inference import Floats

_CHECK_SECONDS = 0.1

Done = Callable[[Floats | Exception], None]
"""Receives float32 [images, dim], or what a run raised."""


class Request(Protocol):
    """What runs a batch."""

    def failure(self) -> Exception | None:
        """Return what the run raised, None while it runs and where it succeeded."""


class Run:
    """A batch that a request computes. It ends once, by the callback or by the watch."""

    def __init__(self, request: Request, ended: Done) -> None:
        self.request = request
        self.over = False
        self._ended = ended
        self._lock = threading.Lock()

    def end(self, result: Floats | Exception) -> None:
        """Report the result, unless one was reported."""
        with self._lock:
            first, self.over = not self.over, True
        if first:
            self._ended(result)


class FailureWatch:
    """Asks running requests now and then whether they failed: OpenVINO calls no Python callback then."""

    def __init__(self) -> None:
        self._runs: set[Run] = set()
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def add(self, run: Run) -> None:
        """Watch a run that has started until it is over."""
        with self._wake:
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="openvino-failures", daemon=True)
                self._thread.start()
            if not self._runs:
                self._wake.notify()
            self._runs.add(run)

    def close(self) -> None:
        """End the thread."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._runs or self._closed)
                if self._wake.wait_for(lambda: self._closed, timeout=_CHECK_SECONDS):
                    return
                self._runs = {run for run in self._runs if not run.over}
                running = list(self._runs)
            for run in running:
                error = run.request.failure()
                if error is not None:
                    run.end(error)
