"""Imports a catalog: batches in flight at once, each repeated while the server is busy or away.

Knows nothing of terminals: an observer is told what happens, and `ImportProgress` holds the figures at any moment,
also when the import is interrupted. At most `in_flight` batches are in memory.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from grpc import StatusCode

from lookalike_client.async_client import AsyncClient
from lookalike_client.errors import LookalikeError
from lookalike_client.inputs import ProductInput
from lookalike_client.transfer.catalog_csv import FailedRow
from lookalike_client.transfer.import_batches import Batch, Prepared
from lookalike_client.types import ItemStatus

KEPT_FAILURES = 1000
"""Failed rows that are kept to be listed; further ones are only counted."""

TRIES = 8
"""How often a batch is sent before the server counts as gone: about 40 s of waiting, on top of gRPC's own retries."""

_PASSING = frozenset({StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED})
_HOPELESS = frozenset({StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED, StatusCode.UNIMPLEMENTED})


@dataclass(slots=True)
class ImportProgress:
    """How far an import is; `failures` holds the first KEPT_FAILURES of the `failed` rows."""

    imported: int = 0
    skipped: int = 0
    failed: int = 0
    failures: list[FailedRow] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Rows that are dealt with."""
        return self.imported + self.skipped + self.failed

    def fail(self, row: FailedRow) -> None:
        """Count a failed row, and keep it if there is room."""
        self.failed += 1
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append(row)


class ImportObserver(Protocol):
    """Is told what happens, in the event loop's thread."""

    def advanced(self, progress: ImportProgress) -> None:
        """Some more rows are dealt with."""

    def rejected(self, error: LookalikeError, wait: float) -> None:
        """The server was busy or away; the batch is sent again in `wait` seconds."""


class Destination(Protocol):
    """Where the products go: an `AsyncClient`, which sends a batch as one message, or `OverStream`."""

    async def upsert(self, products: Sequence[ProductInput]) -> list[ItemStatus]:
        """Store products; one status each, in their order.

        Raises:
            LookalikeError: The server rejects all of them or does not answer.
        """


class OverStream:
    """Sends each batch over a stream of its own, which has no largest size and is read as fast as it is stored."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def upsert(self, products: Sequence[ProductInput]) -> list[ItemStatus]:
        """Store products with different ids within the client's timeout; one status each, in their order.

        Raises:
            LookalikeError: The stream is rejected or breaks; some of the products may be stored.
        """
        answers = self._client.import_products(products, timeout=self._client.timeout)
        statuses = {status.id: status async for status in answers}
        return [statuses[product.id] for product in products]


class ImportStoppedError(Exception):
    """The server is gone for good, or will not take anything from this caller; `error` is the last rejection."""

    def __init__(self, error: LookalikeError) -> None:
        super().__init__(str(error))
        self.error = error


async def existing_ids(client: AsyncClient) -> set[str]:
    """The ids of all products that the server holds.

    Raises:
        LookalikeError: The server rejects or does not answer.
    """
    return {product.id async for product in client.products(page_size=1000)}


async def import_batches(
    destination: Destination,
    batches: Iterator[Batch],
    progress: ImportProgress,
    observer: ImportObserver,
    *,
    in_flight: int = 4,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Send batches, `in_flight` of them at once, until there are no more.

    Args:
        destination: Where they go.
        batches: Where they come from; advanced in a thread, by one caller at a time.
        progress: Counts what became of the rows.
        observer: Is told when it changes.
        in_flight: Batches under way at once.
        pause: Waits some seconds before a batch is sent again.

    Raises:
        CatalogError: The catalog cannot be read on.
        ImportStoppedError: The server is gone or rejects everything; what is counted as imported is on its disk.
    """
    task = _Import(destination, batches, progress, observer, pause)
    workers = [asyncio.create_task(task.work()) for _ in range(in_flight)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def seconds_until_retry(tries: int, retry_after: float | None) -> float:
    """How long to wait after `tries` rejections: twice as long each time up to 10 s, or what the server asked for."""
    return max(min(10.0, 0.25 * 2.0**tries), retry_after or 0.0)


def _is_too_large(error: LookalikeError) -> bool:
    # gRPC says so with the code of a server that is full, though no wait will help
    return error.code is StatusCode.RESOURCE_EXHAUSTED and "larger than max" in error.message


class _Import:
    def __init__(
        self,
        destination: Destination,
        batches: Iterator[Batch],
        progress: ImportProgress,
        observer: ImportObserver,
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._destination = destination
        self._batches = batches
        self._progress = progress
        self._observer = observer
        self._pause = pause
        self._reading = asyncio.Lock()

    async def work(self) -> None:
        while True:
            # a generator cannot be advanced by two threads at once
            async with self._reading:
                batch = await asyncio.to_thread(next, self._batches, None)
            if batch is None:
                return
            self._progress.skipped += batch.skipped
            for row in batch.failed:
                self._progress.fail(row)
            self._observer.advanced(self._progress)
            await self._store(batch.ready)

    async def _store(self, pending: list[Prepared]) -> None:
        tries = 0
        while pending:
            rejection, pending = await self._send(pending)
            self._observer.advanced(self._progress)
            if rejection is None:
                return
            tries += 1
            if tries == TRIES:
                raise ImportStoppedError(rejection)
            wait = seconds_until_retry(tries, rejection.retry_after)
            self._observer.rejected(rejection, wait)
            await self._pause(wait)

    async def _send(self, pending: list[Prepared]) -> tuple[LookalikeError | None, list[Prepared]]:
        """Send once; returns what should be sent again, and why."""
        try:
            statuses = await self._destination.upsert([each.product for each in pending])
        except LookalikeError as error:
            if error.code in _PASSING and not _is_too_large(error):
                return error, pending
            if error.code in _HOPELESS:
                raise ImportStoppedError(error) from error
            if len(pending) == 1:
                self._fail(pending[0], error)
            else:
                # the request as a whole was rejected: find the rows that are to blame
                for each in pending:
                    await self._store([each])
            return None, []
        rejection = None
        again = []
        for each, status in zip(pending, statuses, strict=True):
            if status.error is None:
                self._progress.imported += 1
            elif status.code in _PASSING:
                rejection = status.error
                again.append(each)
            else:
                self._fail(each, status.error)
        return rejection, again

    def _fail(self, each: Prepared, error: LookalikeError) -> None:
        # the place in the request says nothing to someone who has a row number
        reason = re.sub(r"\bproduct(s\[\d+\])?\.", "", str(error))
        self._progress.fail(FailedRow(each.number, each.product.id, reason))
