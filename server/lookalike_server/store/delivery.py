"""What was committed goes to the index and then to its callers, in commit order, beside the next transaction.

The index copies every vector into memory that is new to the process, which takes as long as a good part of the
transaction; so while more is to be written, a thread of its own does that. Never two changes at once, and a lone write
does not change threads.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from lookalike_server.domain.catalog import IndexChange
from lookalike_server.store.write_jobs import Step, WriteResult

_MOST_WAITING = 1  # transactions that are committed and not delivered, beside the one being delivered

Committed = Sequence[tuple[Step, WriteResult]]
"""What a transaction wrote."""


class Delivery:
    """Owns the thread. One thread, the writer's, delivers."""

    def __init__(self, on_commit: Callable[[IndexChange], None]) -> None:
        self._on_commit = on_commit
        self._queue: queue.Queue[Committed | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._loop, name="store-delivery", daemon=True)
        self._thread.start()

    def deliver(self, committed: Committed, *, at_once: bool) -> None:
        """Deliver what was committed, after all that was before.

        Args:
            committed: What a transaction wrote.
            at_once: Whether there is nothing to do meanwhile, so that this thread may as well do it.
        """
        if at_once and not self._queue.unfinished_tasks:
            self._deliver(committed)
        else:
            self._queue.put(committed)

    def close(self) -> None:
        """Deliver everything, then stop; may be called again."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _loop(self) -> None:
        while (committed := self._queue.get()) is not None:
            self._deliver(committed)
            del committed  # not as long as the thread waits
            self._queue.task_done()

    def _deliver(self, committed: Committed) -> None:
        for step, result in committed:
            try:
                self._on_commit(result.change)
            except Exception as error:  # noqa: BLE001 - the thread must outlive a bug in the index
                for item in step.items:
                    item.complete(error)
            else:
                for item, value in zip(step.items, result.value, strict=True):
                    item.complete(value)
