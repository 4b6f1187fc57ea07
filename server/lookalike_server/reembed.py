"""The command `reembed`: embeds a catalog's stored images with another model, and binds the catalog to that model.

The calling thread reads images from the store and writes vectors to it, while other threads decode and run the model.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass

import structlog

from lookalike_server.config import Settings
from lookalike_server.domain.errors import Code, LookalikeError
from lookalike_server.domain.events import Observer
from lookalike_server.domain.inference import Model
from lookalike_server.engine.model_loading import LoadSession
from lookalike_server.engine.runtime_choice import plan_model
from lookalike_server.inference.image_decoding import ImageDecoder
from lookalike_server.inference.manifest import read_model_folder
from lookalike_server.inference.offline import OfflineBatch, embed_all
from lookalike_server.inference.plan import Plan
from lookalike_server.inference.processor import available_cores
from lookalike_server.store.reembedding import ImageKey, Reembedding, UnembeddedProducts, open_reembedding

_MAX_NAMED = 5  # products that an error names
_MAX_REASONS = 1000  # kept, why images cannot be embedded
_MAX_SECONDS = 30.0  # between two log lines about the progress

Progress = Callable[[int, int], None]
"""Receives how many images are done and durable, and how many there are in all."""


@dataclass(frozen=True, slots=True)
class ReembedResult:
    """The outcome of a reembedding.

    Attributes:
        model: The model whose embeddings the catalog now has.
        changed: False where it already had them, and nothing was done.
        products: How many products it has.
        dropped: How many products were deleted because they could not be embedded again.
        embedded: How many images this run embedded; each region of an image counts.
        resumed: How many images an earlier run had embedded.
    """

    model: Model
    changed: bool = False
    products: int = 0
    dropped: int = 0
    embedded: int = 0
    resumed: int = 0


def reembed(
    settings: Settings,
    *,
    drop_missing: bool,
    progress: Progress,
    observer: Observer,
    load_session: LoadSession | None = None,
) -> ReembedResult:
    """Replace the catalog's embeddings by those of the settings' model, unless it already has them.

    An exception of any kind leaves the catalog unchanged, and the embeddings made so far for the next run.

    Args:
        settings: The model, the catalog, and how the model is run and images are decoded.
        drop_missing: Delete the products that cannot be embedded again instead of raising an error.
        progress: Called before the first image, and after every batch once it is durable.
        observer: Receives every batch.
        load_session: Loads the model; ONNX Runtime without it.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the model or the catalog cannot be used, an image of some product is
            not stored or cannot be embedded, or the disk is full; INTERNAL when the model fails.
    """
    log = structlog.get_logger()
    folder = read_model_folder(settings.model)
    model = folder.model
    with open_reembedding(settings.data_dir, model) as catalog:
        if catalog.digest == model.digest:
            return ReembedResult(model)
        not_stored = catalog.without_image(_MAX_NAMED)
        if not_stored.count and not drop_missing:
            raise _cannot(not_stored, "an embedding whose image is not stored", {})
        catalog.begin()
        resumed, total = catalog.counts()
        embedded = rejected = 0
        reasons: dict[str, str] = {}
        if resumed < total:
            log.info("autotune_started", model=model.name, weights=model.weights)
            planned = plan_model(folder, settings, load_session)
            plan = planned.plan
            log.info(
                "model_ready",
                library=planned.runtime.library,
                precision=planned.runtime.precision,
                max_concurrent_batches=plan.max_concurrent_batches,
                preferred_batch_size=plan.preferred_batch_size,
            )
            progress(resumed, total)
            with closing(_embed(catalog, model, plan, settings, observer)) as batches:
                for batch in batches:
                    catalog.add(batch.keys, batch.vectors)
                    embedded, rejected = embedded + len(batch.keys), rejected + len(batch.rejected)
                    if len(reasons) < _MAX_REASONS:
                        reasons |= {image: reason for (image, _), reason in batch.rejected}
                    progress(resumed + embedded + rejected, total)
        failed = catalog.without_vector(_MAX_NAMED)
        if failed.count and not drop_missing:
            raise _cannot(failed, "an image that cannot be embedded", reasons)
        log.info("embeddings_replacing")
        products, dropped = catalog.finish(drop=drop_missing)
        return ReembedResult(model, True, products, dropped, embedded, resumed)


class ProgressLog:
    """Logs the progress: every second at first, and less often the longer it takes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started: tuple[float, int] | None = None
        self._next = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Log it, if it is time to or this was the last."""
        now = self._clock()
        started, done_before = self._started = self._started or (now, done)
        if now < self._next and done < total:
            return
        seconds = now - started
        self._next = now + min(_MAX_SECONDS, max(1.0, seconds / 20))
        log = structlog.get_logger()
        if done > done_before and seconds > 0:
            rate = (done - done_before) / seconds
            log = log.bind(per_second=round(rate, 1), minutes_left=round((total - done) / rate / 60, 1))
        log.info("reembedding", done=done, total=total)


def _embed(
    catalog: Reembedding, model: Model, plan: Plan, settings: Settings, observer: Observer
) -> Generator[OfflineBatch[ImageKey]]:
    # No limits: a stored image was accepted once, and must not be lost because the limits are others now.
    decoder = ImageDecoder.of_model(model, sys.maxsize, sys.maxsize)
    threads = settings.decode_threads or available_cores()
    return embed_all(catalog.pending(), decoder, plan, threads, observer)


def _cannot(products: UnembeddedProducts, what: str, reasons: Mapping[str, str]) -> LookalikeError:
    named = []
    for product, image in products.first:
        reason = reasons.get(image or "")
        named.append(f"{product!r} ({reason})" if reason else repr(product))
    who = "1 product has" if products.count == 1 else f"{products.count:,} products have"
    others = f" and {products.count - len(named):,} more" if products.count > len(named) else ""
    return LookalikeError(
        Code.FAILED_PRECONDITION,
        f"{who} {what}: {', '.join(named)}{others}. Upsert them again with their images while the"
        " old model serves, or delete them with --drop-missing. The catalog is unchanged",
    )
