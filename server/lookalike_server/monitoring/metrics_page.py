"""The page of metrics: collected and written in a thread, in the format that the client takes, at most so often."""

from __future__ import annotations

import asyncio
import copy
import gzip
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias, cast

from prometheus_client import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from lookalike_server.monitoring.exchange import Request, Response
from lookalike_server.pausing import pausing

Source: TypeAlias = Callable[[], Awaitable[Collector]]
"""Returns what is to be collected, in a thread, for the metrics of now."""

MIN_SECONDS = 0.25
"""Between the beginnings of two collections; what is asked for meanwhile is answered by the next one."""

_OPENMETRICS = "application/openmetrics-text"
_GZIP_LEVEL = 1  # a tenth of the size already; higher levels take several times as long


@dataclass(frozen=True, slots=True)
class _Form:
    """What a client takes: OpenMetrics or Prometheus' text 0.0.4, which every client takes; compressed or not."""

    is_openmetrics: bool
    is_compressed: bool

    @classmethod
    def of(cls, request: Request) -> _Form:
        accept, encodings = (request.headers.get(name, "") for name in ("accept", "accept-encoding"))
        wanted = _quality(accept, _OPENMETRICS)
        return cls(0.0 < wanted >= _quality(accept, "text/plain", "*/*"), _quality(encodings, "gzip") > 0.0)


class MetricsPage:
    """Answers `/metrics`. Each answer was collected after it was asked for. Lives on one event loop."""

    def __init__(self, source: Source, min_seconds: float = MIN_SECONDS) -> None:
        """Collect from there, `min_seconds` apart at least."""
        self._source = source
        self._min_seconds = min_seconds
        self._begun = -min_seconds
        self._asked: dict[_Form, asyncio.Future[Response]] = {}
        self._collecting: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "metrics")

    async def __call__(self, request: Request) -> Response:
        """Answer a request: Prometheus' text or OpenMetrics, compressed or not."""
        form = _Form.of(request)
        future = self._asked.get(form)
        if future is None:
            future = self._asked[form] = asyncio.get_running_loop().create_future()
        if self._collecting is None:
            self._collecting = asyncio.get_running_loop().create_task(self._collect())
        return await asyncio.shield(future)  # others may wait for it

    def close(self) -> None:
        """End the thread, once it is done with what it collects."""
        if self._collecting is not None:
            self._collecting.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _collect(self) -> None:
        """Collect until nothing is asked for any more."""
        loop = asyncio.get_running_loop()
        while self._asked:
            await asyncio.sleep(max(0.0, self._begun + self._min_seconds - time.monotonic()))
            self._begun = time.monotonic()
            asked, self._asked = self._asked, {}
            try:
                collector = await self._source()
                responses = await loop.run_in_executor(self._thread, _responses, collector, tuple(asked))
            except Exception as error:  # noqa: BLE001 - those who asked get it
                for future in asked.values():
                    future.set_exception(error)
                    future.exception()  # all who asked may have gone
            else:
                for future, response in zip(asked.values(), responses, strict=True):
                    future.set_result(response)
        self._collecting = None


class _Collected(Collector):
    """Metrics that have been collected, to be written more than once, each time with pauses between samples."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterator[Metric]:
        for metric in self._metrics:
            written = copy.copy(metric)
            written.samples = cast("list[Sample]", pausing(metric.samples))  # which are read once, in their order
            yield written


def _responses(collector: Collector, forms: tuple[_Form, ...]) -> list[Response]:
    """Collect once, and write one response for each form."""
    collected = _Collected(pausing(collector.collect()))
    responses = []
    for form in forms:
        if form.is_openmetrics:
            write: Callable[[Collector], bytes] = openmetrics.generate_latest  # untyped
            body, content_type = write(collected), openmetrics.CONTENT_TYPE_LATEST
        else:
            body, content_type = generate_latest(collected), CONTENT_TYPE_PLAIN_0_0_4
        headers = {"Vary": "Accept, Accept-Encoding"}
        if form.is_compressed:
            body, headers = gzip.compress(body, _GZIP_LEVEL, mtime=0), headers | {"Content-Encoding": "gzip"}
        responses.append(Response(HTTPStatus.OK, body, content_type, headers))
    return responses


def _quality(header: str, *names: str) -> float:
    """Return the q of the best of these names in a header such as Accept; 0.0 where none is in it."""
    best = 0.0
    for item in header.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        if name in names:
            quality = next((each.removeprefix("q=") for each in parameters if each.startswith("q=")), "1")
            best = max(best, _number(quality))
    return best


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
