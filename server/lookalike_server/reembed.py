"""The command `rebuild`: embeds what a catalog keeps with another model, and makes the catalog that model's.

The calling thread reads images from the store and writes vectors to it; decoders and the model run beside it.
"""

from __future__ import annotations

import os
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
from lookalike_server.engine.model_loading import LoadSession, plan_model
from lookalike_server.inference.autotune import Plan
from lookalike_server.inference.image_decoding import ImageDecoder
from lookalike_server.inference.manifest import read_model_folder
from lookalike_server.inference.offline import OfflineBatch, embed_all
from lookalike_server.store.reembedding import Key, Left, Reembedding, open_reembedding

_FEW = 5  # products that a rejection names
_MOST_REASONS = 1000  # remembered, of the images that cannot be embedded
_MOST_SECONDS = 30.0  # from one line about the progress to the next

Progress = Callable[[int, int], None]
"""Told how many images are done with and on disk, and how many there are in all."""


@dataclass(frozen=True, slots=True)
class ReembedResult:
    """What became of a rebuild.

    Attributes:
        model: The model that the catalog is now of.
        changed: False where it was so already, and nothing was done.
        products: How many products it has.
        dropped: How many were removed because they could not be embedded again.
        embedded: Images that this run embedded; each region of an image is one.
        found: Images that an earlier run had embedded.
    """

    model: Model
    changed: bool = False
    products: int = 0
    dropped: int = 0
    embedded: int = 0
    found: int = 0


def reembed(
    settings: Settings,
    *,
    drop_missing: bool,
    progress: Progress,
    observer: Observer,
    load_session: LoadSession | None = None,
) -> ReembedResult:
    """Rebuild the catalog for the model of the settings, unless it is of that model already.

    An exception of any kind leaves the catalog as it was, and what was embedded so far for the next time.

    Args:
        settings: The model, the catalog, and how the model is run and images are decoded.
        drop_missing: Remove the products that cannot be embedded again instead of rejecting.
        progress: Called before the first image, and after every batch once that is on disk.
        observer: Told of every run of the model.
        load_session: Loads the model; ONNX Runtime without it.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the model or the catalog cannot be had, an image of some product is
            not kept or cannot be embedded, or the disk is full; INTERNAL when the model fails.
    """
    log = structlog.get_logger()
    folder = read_model_folder(settings.model)
    model = folder.model
    with open_reembedding(settings.data_dir, model) as catalog:
        if catalog.digest == model.digest:
            return ReembedResult(model)
        lost = catalog.without_image(_FEW)
        if lost.count and not drop_missing:
            raise _cannot(lost, "an embedding whose image is not kept", {})
        catalog.begin()
        found, of = catalog.counts()
        embedded = rejected = 0
        reasons: dict[str, str] = {}
        if found < of:
            log.info("autotune_started", model=model.name, weights=model.weights)
            plan = plan_model(folder, settings, load_session)
            log.info(
                "model_ready",
                provider=plan.throughput_session.provider,
                max_concurrent_batches=plan.max_concurrent_batches,
                preferred_batch_size=plan.preferred_batch_size,
            )
            progress(found, of)
            with closing(_embed(catalog, model, plan, settings, observer)) as batches:
                for batch in batches:
                    catalog.keep(batch.keys, batch.vectors)
                    embedded, rejected = embedded + len(batch.keys), rejected + len(batch.rejected)
                    if len(reasons) < _MOST_REASONS:
                        reasons |= {image: reason for (image, _), reason in batch.rejected}
                    progress(found + embedded + rejected, of)
        unmade = catalog.not_made(_FEW)
        if unmade.count and not drop_missing:
            raise _cannot(unmade, "an image that cannot be embedded", reasons)
        log.info("embeddings_replacing")
        products, dropped = catalog.finish(drop=drop_missing)
        return ReembedResult(model, True, products, dropped, embedded, found)


class ProgressLog:
    """Logs how far a rebuild is: every second at first, and the longer it takes the less often."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun: tuple[float, int] | None = None
        self._next = 0.0

    def __call__(self, done: int, of: int) -> None:
        """Log it, if it is time or this was the last."""
        now = self._clock()
        begun, before = self._begun = self._begun or (now, done)
        if now < self._next and done < of:
            return
        seconds = now - begun
        self._next = now + min(_MOST_SECONDS, max(1.0, seconds / 20))
        log = structlog.get_logger()
        if done > before and seconds > 0:
            rate = (done - before) / seconds
            log = log.bind(per_second=round(rate, 1), minutes_left=round((of - done) / rate / 60, 1))
        log.info("reembedding", done=done, of=of)


def _embed(
    catalog: Reembedding, model: Model, plan: Plan, settings: Settings, observer: Observer
) -> Generator[OfflineBatch[Key]]:
    # No limits: what is kept was let in when it came, and must not be lost because they are others now.
    reader = ImageDecoder(model.height, model.width, model.resize, sys.maxsize, sys.maxsize)
    threads = settings.decode_threads or os.cpu_count() or 1
    return embed_all(catalog.pending(), reader, plan, threads, observer)


def _cannot(left: Left, what: str, reasons: Mapping[str, str]) -> LookalikeError:
    named = []
    for product, image in left.first:
        reason = reasons.get(image or "")
        named.append(f"{product!r} ({reason})" if reason else repr(product))
    who = "1 product has" if left.count == 1 else f"{left.count:,} products have"
    others = f" and {left.count - len(named):,} more" if left.count > len(named) else ""
    return LookalikeError(
        Code.FAILED_PRECONDITION,
        f"{who} {what}: {', '.join(named)}{others}. Store them again with their images while the old"
        " model serves, or have them removed with --drop-missing. The catalog is as it was",
    )
