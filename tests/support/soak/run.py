"""One soak of one server: start it, fill it, load it, sample it, and judge what was seen."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lookalike.v1 import catalog_service_pb2
from support.multiprocess_server import Caller
from support.paths import MODELS
from support.processes import SERVE, server_process
from support.soak.calls import all_products
from support.soak.judge import HOUR, Finding, Sample, judge
from support.soak.load import MixedLoad
from support.soak.sampling import Scraped, sample, scrape

MAX_SAMPLES = 400
"""Of a run, however long it is; one a second in a shorter one."""

WARM_UP = 0.3
"""The part of a run that is not judged, at most `MAX_WARM_UP_SECONDS`: caches fill, graphs are built, and the allocator
comes to what it needs for calls that happen to be at once."""

MAX_WARM_UP_SECONDS = 900.0
"""About 20,000 calls. At first the memory grows by 300 bytes a call, whatever the kind, and by 30 after so many."""

CALLS_PER_SECOND = 25.0

RSS_LIMIT = 1.0
"""MiB an hour that the resident memory may grow after the warm-up, in runs of an hour or more."""


def rss_limit(seconds: float) -> float:
    """Return the slope, in MiB an hour, that a run of so many seconds may have.

    Runs of less than an hour end before the memory has found its level. By how much it still grows sinks as the time
    goes on; in five minutes it was 20 to 30 MiB an hour, and the limit is 50, which is 600 bytes of each call.
    """
    return RSS_LIMIT if seconds >= HOUR else 15_000.0 / seconds


# Caches that are full before the warm-up ends, and a graph in a catalog of a few hundred products.
_FLAGS = (
    *("--provider", "cpu", "--intra-op-threads", "1", "--max-concurrent-batches", "1", "--preferred-batch-size", "16"),
    *("--product-cache-bytes", str(64 << 10), "--full-scan-threshold", "200", "--metrics-listen", "0"),
)
CACHE_ON = ("--embedding-cache-bytes", str(128 << 10))
CACHE_OFF = ("--embedding-cache-bytes", "0")


@dataclass(frozen=True)
class Soaked:
    """What was seen of a server.

    Attributes:
        ended: Calls by kind and code.
        unexpected: Calls that ended as they should not.
        metrics: Those at the end.
        seconds: For how long it was judged.
    """

    name: str
    samples: Sequence[Sample]
    findings: Sequence[Finding]
    ended: Counter[tuple[str, str]]
    unexpected: Sequence[str]
    metrics: Scraped
    seconds: float

    def finding(self, quantity: str) -> Finding:
        """Return what was found of a quantity."""
        (found,) = (finding for finding in self.findings if finding.quantity == quantity)
        return found


async def soak(name: str, folder: Path, seconds: float, *flags: str, command: tuple[str, ...] = SERVE) -> Soaked:
    """Load a server for so many seconds, and judge it."""
    warm_up = min(WARM_UP * seconds, MAX_WARM_UP_SECONDS)
    samples = []
    with server_process(MODELS / "tiny", folder, *_FLAGS, *flags, command=command) as server:
        await _fill(server.address)
        async with MixedLoad(server.address, CALLS_PER_SECOND) as load:
            loop = asyncio.get_running_loop()
            begin = loop.time()
            count = min(int(seconds), MAX_SAMPLES)
            for at in range(1, count + 1):
                await asyncio.sleep(begin + seconds * at / count - loop.time())
                metrics = await scrape(server.metrics_port)
                samples.append(sample(server.process.pid, loop.time() - begin, metrics))
        metrics = await scrape(server.metrics_port)
    findings = judge(samples, warm_up, rss_limit(seconds))
    return Soaked(name, samples, findings, load.ended, load.unexpected, metrics, seconds - warm_up)


async def _fill(address: str) -> None:
    caller = Caller(address)
    async with caller.channel:
        request = catalog_service_pb2.UpsertProductsRequest(products=list(all_products(1)))
        for result in (await caller.catalog.UpsertProducts(request)).results:
            assert not result.status.code, result
