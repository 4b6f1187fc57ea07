"""Embeds many images without callers: in order, in full batches, decoded and run a few ahead of the consumer.

Serving needs the batcher for its deadlines; here there are none, and memory is bounded by what is under way.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress
from operator import not_
from typing import Generic, TypeVar

import numpy as np

from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.events import BatchCompleted, BatchFailed, Observer
from lookalike_server.domain.inference import Floats, Image, Pixels
from lookalike_server.inference.image_decoding import ImageDecoder
from lookalike_server.inference.plan import Plan

K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")

_NOT_FINITE = "its embedding has values that are not finite"


@dataclass(frozen=True, slots=True)
class OfflineBatch(Generic[K]):
    """The embeddings of some images, by the caller's keys.

    Attributes:
        keys: The images that were embedded.
        vectors: float32 [keys, dim], as the model returned them.
        rejected: The images that cannot be embedded, each with the reason.
    """

    keys: list[K]
    vectors: Floats
    rejected: list[tuple[K, str]]


def embed_all(
    images: Iterable[tuple[K, Image]], decoder: ImageDecoder, plan: Plan, decode_threads: int, observer: Observer
) -> Generator[OfflineBatch[K]]:
    """Embed images with keys, in batches of the plan's size.

    Args:
        images: Iterated in the consumer's thread, and only a few of them ahead.
        decoder: Decodes the images.
        plan: How the model runs.
        decode_threads: Images decoded at once.
        observer: Receives every batch.

    Raises:
        LookalikeError: INTERNAL when the model fails.
    """

    def decode(item: tuple[K, Image]) -> tuple[K, Pixels | str]:
        key, image = item
        try:
            return key, decoder.decode(image)
        except LookalikeError as error:
            return key, error.message

    def run(batch: list[tuple[K, Pixels | str]]) -> OfflineBatch[K]:
        keys = [key for key, image in batch if not isinstance(image, str)]
        pixels = [image for _, image in batch if not isinstance(image, str)]
        rejected = [(key, image) for key, image in batch if isinstance(image, str)]
        if not keys:
            return OfflineBatch([], np.empty((0, 0), dtype=np.float32), rejected)
        vectors = _run(plan, pixels, observer)
        finite = [bool(np.isfinite(vector).all()) for vector in vectors]
        rejected += [(key, _NOT_FINITE) for key in compress(keys, map(not_, finite))]
        return OfflineBatch(list(compress(keys, finite)), vectors[finite], rejected)

    with (
        _pool(decode_threads, "decoder") as decoders,
        _pool(plan.max_concurrent_batches, "model") as runners,
    ):
        decoded = _map_ahead(decoders, decode, images, plan.preferred_batch_size + 2 * decode_threads)
        batches = _batches(decoded, plan.preferred_batch_size)
        yield from _map_ahead(runners, run, batches, plan.max_concurrent_batches + 1)


def _run(plan: Plan, pixels: list[Pixels], observer: Observer) -> Floats:
    size = len(pixels)
    padded = plan.padded(size)
    images = np.zeros((padded, *pixels[0].shape), dtype=np.uint8)
    np.stack(pixels, out=images[:size])
    started = time.perf_counter()
    try:
        vectors = plan.throughput_session.run(images)
    except Exception as error:
        observer(BatchFailed(size, error))
        raise LookalikeError(Code.INTERNAL, f"the model failed on a batch of {size} images: {error}") from error
    observer(BatchCompleted(size, padded, time.perf_counter() - started))
    return vectors[:size]


def _map_ahead(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], limit: int) -> Iterator[R]:
    """Apply the function to each item, in order, with at most `limit` results computed ahead of the consumer."""
    pending: deque[Future[R]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) == limit:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


@contextmanager
def _pool(threads: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Provide threads that, where the block ends early, finish what they run and start nothing more."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
