"""Decides when a process whose GPU is lost to it ends."""

from __future__ import annotations

from collections.abc import Callable

from lookalike_server.inference.run_watch import RunWatch

LAST_SECONDS = 1.0
"""In which health says NOT_SERVING, and callers get the responses that there are."""


class GpuLoss:
    """A sticky error of CUDA, which only another process is free of. By the time of whoever looks."""

    def __init__(self, runs: RunWatch, on_loss: Callable[[bool], object]) -> None:
        """Look at what these runs ended with; `on_loss` is called with True once the GPU is lost."""
        self._runs = runs
        self._on_loss = on_loss
        self._seconds = 0.0
        self.reason = ""
        """The error; empty while the GPU can be used."""

    def look(self, step: float) -> bool:
        """Look, `step` seconds after the last time; return whether to give this process up."""
        if self._runs.gpu_error is None:
            return False
        if not self.reason:
            self.reason = str(self._runs.gpu_error)
            self._on_loss(True)
            return False
        self._seconds += step
        return self._seconds > LAST_SECONDS
