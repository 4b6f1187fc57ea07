"""How fast products are imported with their images, beside decoding the same files and running the model alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from benchmarks.bare_process import BareError
from benchmarks.processes import StartError
from benchmarks.rounds import Pairs
from benchmarks.scenarios.bench import Bench, Result
from benchmarks.servers.base import Target
from lookalike_client.async_client import AsyncClient
from lookalike_client.errors import LookalikeError
from lookalike_client.transfer.catalog_csv import CatalogFile
from lookalike_client.transfer.catalog_error import CatalogError
from lookalike_client.transfer.import_batches import Batch, ImageRows
from lookalike_client.transfer.importer import ImportProgress, ImportStoppedError, StreamDestination, import_batches

BATCH = 16  # products a stream, four streams at a time: what `lookalike import` sends
_FEWEST = 4  # batches a turn: as many as are under way at a time


def over_decoding(bench: Bench, ours: Target, catalog: Path, products: int | None, bound: float) -> Result:
    """Import a catalog in as many parts as there are rounds, each beside the bare run of the same files.

    No image is imported twice, so none is embedded already.

    Raises:
        StartError: The catalog cannot be read, or the files cannot be decoded without a server.
    """
    try:
        source = CatalogFile(catalog)
        batches = -(-source.count(products) // BATCH)
    except CatalogError as error:
        raise StartError(str(error)) from error
    rounds = min(bench.rounds, batches // _FEWEST)
    if rounds == 0:
        raise StartError(f"{catalog} needs {_FEWEST * BATCH} products or more, and has {batches * BATCH} at most")
    shape = bench.find_limit().shape
    unread = ImageRows(source).batches(size=BATCH, limit=products, existing=set())
    imported, bare, sizes = [], [], []
    try:
        for _ in range(rounds):
            part: list[Batch] = []
            imported.append(_import(ours, _noted(islice(unread, batches // rounds), part)))
            files = [catalog.parent / each.product.image_uri for batch in part for each in batch.ready]
            bare.append(bench.bare.decode_and_run(shape, files))
            sizes.append(len(files))
    except (BareError, CatalogError, ImportStoppedError) as error:
        raise StartError(str(error)) from error
    pairs = Pairs(imported, bare)
    value = pairs.spread(lambda a, b: a / b)
    details = {"imported_per_s": imported, "bare_per_s": bare, "products": sizes, "bare": str(shape)}
    return Result.at_least("import", f"decode + run ({shape})", value, bound, details)


def _noted(batches: Iterator[Batch], read: list[Batch]) -> Iterator[Batch]:
    for batch in batches:
        read.append(batch)
        yield batch


def _import(ours: Target, batches: Iterator[Batch]) -> float:
    """Return the products a second."""
    progress = ImportProgress()

    async def send() -> None:
        async with AsyncClient(ours.address) as client:
            await import_batches(StreamDestination(client), batches, progress, _Quiet())

    start = time.perf_counter()
    asyncio.run(send())
    elapsed = time.perf_counter() - start
    if progress.failed:
        raise StartError(f"{progress.failed} products were not imported: {progress.failures[0].reason}")
    return progress.imported / elapsed


class _Quiet:
    """Ignores progress."""

    def advanced(self, progress: ImportProgress) -> None:
        """Ignore it."""

    def rejected(self, error: LookalikeError, wait: float) -> None:
        """Ignore it; the batch is sent again."""
