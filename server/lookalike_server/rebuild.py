"""The command `rebuild`: embeds what a catalogue keeps with another model, and makes the catalogue that model's.

The calling thread reads pictures from the store and writes vectors to it; decoders and the model run beside it.
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
from lookalike_server.domain import Model
from lookalike_server.errors import Code, LookalikeError
from lookalike_server.inference.image import PhotoReader
from lookalike_server.inference.ladder import Plan
from lookalike_server.inference.manifest import read_model_folder
from lookalike_server.inference.offline import OfflineBatch, embed_all
from lookalike_server.model import LoadSession, plan_model
from lookalike_server.protocols import Observer
from lookalike_server.store.rebuild import Key, Left, Rebuild, rebuilding

_FEW = 5  # products that a refusal names
_MOST_REASONS = 1000  # remembered, of the pictures that cannot be embedded
_MOST_SECONDS = 30.0  # from one line about the progress to the next

Progress = Callable[[int, int], None]
"""Told how many pictures are done with and on disk, and how many there are in all."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What became of a rebuild.

    Attributes:
        model: The model that the catalogue is now of.
        changed: False where it was so already, and nothing was done.
        products: How many products it has.
        dropped: How many were removed because they could not be embedded anew.
        embedded: Pictures that this run embedded; each region of a picture is one.
        found: Pictures that an earlier run had embedded.
    """

    model: Model
    changed: bool = False
    products: int = 0
    dropped: int = 0
    embedded: int = 0
    found: int = 0


def rebuild(
    settings: Settings,
    *,
    drop_missing: bool,
    progress: Progress,
    observer: Observer,
    load_session: LoadSession | None = None,
) -> Rebuilt:
    """Rebuild the catalogue for the model of the settings, unless it is of that model already.

    An exception of any kind leaves the catalogue as it was, and what was embedded so far for the next time.

    Args:
        settings: The model, the catalogue, and how the model is run and photos are decoded.
        drop_missing: Remove the products that cannot be embedded anew instead of refusing.
        progress: Called before the first picture, and after every batch once that is on disk.
        observer: Told of every run of the model.
        load_session: Loads the model; ONNX Runtime without it.

    Raises:
        LookalikeError: FAILED_PRECONDITION when the model or the catalogue cannot be had, a picture of some product is
            not kept or cannot be embedded, or the disk is full; INTERNAL when the model fails.
    """
    log = structlog.get_logger()
    folder = read_model_folder(settings.model)
    model = folder.model
    with rebuilding(settings.data, model) as catalogue:
        if catalogue.digest == model.digest:
            return Rebuilt(model)
        lost = catalogue.without_picture(_FEW)
        if lost.count and not drop_missing:
            raise _cannot(lost, "an embedding whose picture is not kept", {})
        catalogue.begin()
        found, of = catalogue.counts()
        embedded = refused = 0
        reasons: dict[str, str] = {}
        if found < of:
            log.info("measuring how to run the model", model=model.name, weights=model.weights)
            plan = plan_model(folder, settings, load_session)
            log.info("model ready", provider=plan.lane.provider, lanes=plan.lanes, lane_batch=plan.lane_batch)
            progress(found, of)
            with closing(_embed(catalogue, model, plan, settings, observer)) as batches:
                for batch in batches:
                    catalogue.keep(batch.keys, batch.vectors)
                    embedded, refused = embedded + len(batch.keys), refused + len(batch.refused)
                    if len(reasons) < _MOST_REASONS:
                        reasons |= {picture: reason for (picture, _), reason in batch.refused}
                    progress(found + embedded + refused, of)
        unmade = catalogue.not_made(_FEW)
        if unmade.count and not drop_missing:
            raise _cannot(unmade, "a picture that cannot be embedded", reasons)
        log.info("putting the new embeddings in place")
        products, dropped = catalogue.finish(drop=drop_missing)
        return Rebuilt(model, True, products, dropped, embedded, found)


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
        log.info("embedding", done=done, of=of)


def _embed(
    catalogue: Rebuild, model: Model, plan: Plan, settings: Settings, observer: Observer
) -> Generator[OfflineBatch[Key]]:
    # No limits: what is kept was let in when it came, and must not be lost because they are others now.
    reader = PhotoReader(model.height, model.width, model.resize, sys.maxsize, sys.maxsize)
    threads = settings.decode_threads or os.cpu_count() or 1
    return embed_all(catalogue.pending(), reader, plan, threads, observer)


def _cannot(left: Left, what: str, reasons: Mapping[str, str]) -> LookalikeError:
    named = []
    for product, picture in left.first:
        reason = reasons.get(picture or "")
        named.append(f"{product!r} ({reason})" if reason else repr(product))
    who = "1 product has" if left.count == 1 else f"{left.count:,} products have"
    others = f" and {left.count - len(named):,} more" if left.count > len(named) else ""
    return LookalikeError(
        Code.FAILED_PRECONDITION,
        f"{who} {what}: {', '.join(named)}{others}. Store them again with their photos while the old"
        " model serves, or have them removed with --drop-missing. The catalogue is as it was",
    )
