"""Whether rows in mapped files are in memory, so that reading them waits for no disk."""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Sequence
from functools import partial

from lookalike_server.domain.inference import Floats
from lookalike_server.index.row_blocks import is_mapped, missing_pages, run_later

PERIOD = 1.0
"""Seconds after which the system is asked again; after twice as many without an answer nothing is known."""

_FEW = 1 / 64  # of the pages, which are read at once rather than reported missing


class Residency:
    """What was last known of one matrix. Asking never blocks; the system is asked in a thread of its own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with rows that were just written; `clock` is in seconds."""
        self._clock = clock
        self._resident = True
        self._known_at = self._asked_at = clock()
        self._is_first = True

    def known(self, blocks: Callable[[], Sequence[Floats]]) -> bool:
        """Return whether all blocks were in memory when that was last looked at; False where that is long ago."""
        now = self._clock()
        if now - self._asked_at >= PERIOD:
            self._asked_at = now
            run_later(partial(self._look, blocks))
        return self._resident and now - self._known_at < 2 * PERIOD

    def _look(self, blocks: Callable[[], Sequence[Floats]]) -> None:
        mapped = [block for block in blocks() if is_mapped(block)]
        try:
            missing = [missing_pages(block) for block in mapped]
        except OSError:
            self._resident = False
            return
        # At first they are rows that were deleted before they were loaded, and have never been written.
        if self._is_first or sum(map(len, missing)) <= _FEW * sum(block.nbytes for block in mapped) / mmap.PAGESIZE:
            for block, pages in zip(mapped, missing, strict=True):
                block.reshape(-1)[pages * (mmap.PAGESIZE // block.itemsize)].sum()
            self._resident = True
        else:
            self._resident = False
        self._is_first = False
        self._known_at = self._clock()
