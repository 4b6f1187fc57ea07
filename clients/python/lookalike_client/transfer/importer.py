"""Imports a catalog: sends batches concurrently, and retries each while the server is busy or unavailable.

It prints nothing: an observer is notified, and `ImportProgress` has the counts at any moment, also when the import is
interrupted. At most `concurrency` batches are in memory.
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
from lookalike_client.transfer.catalog_error import FailedRow
from lookalike_client.transfer.import_batches import Batch, PendingProduct
from lookalike_client.transfer.stored_products import Comparison, StoredRow
from lookalike_client.types import ItemStatus

MAX_FAILURES = 1000
"""The most failed rows to list; further ones are only counted."""

MAX_ATTEMPTS = 8
"""How often a batch is sent before the import stops: about 40 s of waiting, on top of gRPC's own retries."""

_TRANSIENT = frozenset({StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED})
_FATAL = frozenset({StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED, StatusCode.UNIMPLEMENTED})


@dataclass(slots=True)
class ImportProgress:
    """How far an import is; `failures` has the first MAX_FAILURES of the `failed` rows.

    Of the `imported` rows `changed` replaced a product, where that was looked up.
    """

    imported: int = 0
    changed: int = 0
    skipped: int = 0
    failed: int = 0
    failures: list[FailedRow] = field(default_factory=list)
    on_failure: Callable[[FailedRow], None] | None = None
    """Called with every failed row."""

    @property
    def done(self) -> int:
        """The rows imported, skipped or failed."""
        return self.imported + self.skipped + self.failed

    def fail(self, row: FailedRow) -> None:
        """Count a failed row, and list it if it is among the first."""
        self.failed += 1
        if self.on_failure is not None:
            self.on_failure(row)
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(row)


class ImportObserver(Protocol):
    """Notified of progress, in the event loop's thread."""

    def advanced(self, progress: ImportProgress) -> None:
        """Handle that more rows are imported, skipped or failed."""

    def rejected(self, error: LookalikeError, wait: float) -> None:
        """Handle that the server was busy or unavailable; the batch is sent again in `wait` seconds."""


class Destination(Protocol):
    """Stores a batch: an `AsyncClient`, which sends it as one message, or a `StreamDestination`."""

    async def upsert(self, products: Sequence[ProductInput]) -> list[ItemStatus]:
        """Store products; return a status for each, in the same order.

        Raises:
            LookalikeError: The server rejects all of them or does not respond.
        """


class StreamDestination:
    """Sends each batch over its own stream, which has no maximum size and the flow control of gRPC."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def upsert(self, products: Sequence[ProductInput]) -> list[ItemStatus]:
        """Store products with different ids within the client's timeout; return a status for each, in the same order.

        Raises:
            LookalikeError: The stream is rejected or breaks; some of the products may be stored.
        """
        stream = self._client.import_products(products, timeout=self._client.timeout)
        statuses = {status.id: status async for status in stream}
        return [statuses[product.id] for product in products]


class ImportStoppedError(Exception):
    """The server stays unavailable, or rejects everything from this caller; `error` is the last rejection."""

    def __init__(self, error: LookalikeError) -> None:
        super().__init__(str(error))
        self.error = error


async def import_batches(
    destination: Destination,
    batches: Iterator[Batch],
    progress: ImportProgress,
    observer: ImportObserver,
    *,
    concurrency: int = 4,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    compare: Callable[[ProductInput, StoredRow], Awaitable[Comparison]] | None = None,
) -> None:
    """Send all batches, `concurrency` of them at a time.

    Args:
        destination: Stores the batches.
        batches: The batches; read in a thread, one at a time.
        progress: Counts the rows.
        observer: Notified when the progress changes.
        concurrency: The most batches being sent at a time.
        pause: Sleeps before a batch is sent again; takes seconds.
        compare: Compares a row with what the server has, and may update the product without sending its image.

    Raises:
        CatalogError: The rest of the catalog cannot be read.
        ImportStoppedError: The server stays unavailable or rejects everything; what is counted as imported is durable.
    """
    task = _Import(destination, batches, progress, observer, pause, compare)
    workers = [asyncio.create_task(task.work()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def seconds_until_retry(attempts: int, retry_after: float | None) -> float:
    """Return the wait after `attempts` rejections: doubled each time up to 10 s, and at least what the server asks."""
    return max(min(10.0, 0.25 * 2.0**attempts), retry_after or 0.0)


def _is_too_large(error: LookalikeError) -> bool:
    # gRPC uses the same code as for a full queue, but waiting does not help
    return error.code is StatusCode.RESOURCE_EXHAUSTED and "larger than max" in error.message


class _Import:
    def __init__(
        self,
        destination: Destination,
        batches: Iterator[Batch],
        progress: ImportProgress,
        observer: ImportObserver,
        pause: Callable[[float], Awaitable[None]],
        compare: Callable[[ProductInput, StoredRow], Awaitable[Comparison]] | None,
    ) -> None:
        self._destination = destination
        self._batches = batches
        self._progress = progress
        self._observer = observer
        self._pause = pause
        self._compare = compare
        self._reading = asyncio.Lock()

    async def work(self) -> None:
        while True:
            # two threads cannot advance a generator at the same time
            async with self._reading:
                batch = await asyncio.to_thread(next, self._batches, None)
            if batch is None:
                return
            self._progress.skipped += batch.skipped
            for row in batch.failed:
                self._progress.fail(row)
            self._observer.advanced(self._progress)
            await self._store([each for each in batch.ready if not await self._settle(each)])

    async def _settle(self, each: PendingProduct) -> bool:
        """Return whether a product need not be sent."""
        if each.stored is None or self._compare is None:
            return False
        comparison = await self._compare(each.product, each.stored)
        if comparison is Comparison.UNCHANGED:
            self._progress.skipped += 1
        elif comparison is Comparison.UPDATED:
            self._progress.imported += 1
            self._progress.changed += 1
        return comparison is not Comparison.TO_SEND

    async def _store(self, pending: list[PendingProduct]) -> None:
        attempts = 0
        while pending:
            rejection, pending = await self._send(pending)
            self._observer.advanced(self._progress)
            if rejection is None:
                return
            attempts += 1
            if attempts == MAX_ATTEMPTS:
                raise ImportStoppedError(rejection)
            wait = seconds_until_retry(attempts, rejection.retry_after)
            self._observer.rejected(rejection, wait)
            await self._pause(wait)

    async def _send(self, pending: list[PendingProduct]) -> tuple[LookalikeError | None, list[PendingProduct]]:
        """Send once; return the rejection, and what to send again."""
        try:
            statuses = await self._destination.upsert([each.product for each in pending])
        except LookalikeError as error:
            if error.code in _TRANSIENT and not _is_too_large(error):
                return error, pending
            if error.code in _FATAL:
                raise ImportStoppedError(error) from error
            if len(pending) == 1:
                self._fail(pending[0], error)
            else:
                # the request as a whole was rejected: find the rows that cause it
                for each in pending:
                    await self._store([each])
            return None, []
        rejection = None
        retry = []
        for each, status in zip(pending, statuses, strict=True):
            if status.error is None:
                self._progress.imported += 1
                self._progress.changed += each.stored is not None
            elif status.code in _TRANSIENT:
                rejection = status.error
                retry.append(each)
            else:
                self._fail(each, status.error)
        return rejection, retry

    def _fail(self, each: PendingProduct, error: LookalikeError) -> None:
        # the row number replaces the position in the request
        reason = re.sub(r"\bproduct(s\[\d+\])?\.", "", str(error))
        self._progress.fail(FailedRow(each.number, each.product.id, reason))
