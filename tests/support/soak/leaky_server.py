"""The server with a planted leak, which the judge must notice: it keeps bytes of each call, and files of some."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lookalike_server.__main__ import main
from lookalike_server.domain.events import CallCompleted
from lookalike_server.metrics.metrics import Metrics

COMMAND = (sys.executable, str(Path(__file__)), "serve")

KEPT_BYTES = 1024
"""Of each call, about what its request and its context have."""

CALLS_PER_FILE = 50
"""Calls of which one leaves a file open."""

_kept: list[object] = []


def _plant() -> None:
    count = Metrics._on_call_completed  # noqa: SLF001 - a bug has no interface

    def count_and_keep(self: Metrics, event: CallCompleted) -> None:
        count(self, event)
        _kept.append(os.urandom(KEPT_BYTES))
        if len(_kept) % CALLS_PER_FILE == 0:
            _kept.append(Path(os.devnull).open("rb"))  # noqa: SIM115

    Metrics._on_call_completed = count_and_keep  # type: ignore[method-assign] # noqa: SLF001


if __name__ == "__main__":
    _plant()
    main()
