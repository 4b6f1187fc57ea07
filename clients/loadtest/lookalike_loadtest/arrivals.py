"""When calls are meant to be sent, and which request each sends: drawn from the seed alone, not from the answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lookalike_loadtest.plan import Phase

_CHUNK = 1024  # drawn at once: few enough to be drawn between two calls unnoticed


class Pick(NamedTuple):
    """A request: the index of its kind, and where among the requests of that kind, from 0 up to 1."""

    kind: int
    at: float


class Arrival(NamedTuple):
    """A call to send so many seconds after the measurement began; before it, during the warm-up."""

    due: float
    pick: Pick


def arrivals(phase: Phase, weights: Sequence[float], index: int = 0, of: int = 1) -> Iterator[Arrival]:
    """Yield one worker's part of an open loop's schedule, in order of time.

    Every worker draws the whole schedule and takes every `of`-th call: together they send the same calls at the same
    moments however many they are.
    """
    if phase.rate is None:
        raise ValueError("a closed loop has no schedule")
    rng = np.random.default_rng(phase.seed)
    shares = _shares(weights)
    number, last = 0, 0.0
    while True:
        if phase.arrivals == "poisson":
            moments = last + np.cumsum(rng.exponential(1 / phase.rate, _CHUNK))
            last = float(moments[-1])
        else:
            moments = (number + np.arange(_CHUNK)) / phase.rate
        picks = _picks(rng, shares)
        dues = (moments - phase.warmup).tolist()
        for at in range((index - number) % of, _CHUNK, of):
            if dues[at] >= phase.seconds:
                return
            yield Arrival(dues[at], picks[at])
        number += _CHUNK


def picks(seed: int, weights: Sequence[float], index: int = 0) -> Iterator[Pick]:
    """Yield what one worker of a closed loop sends, without end."""
    rng = np.random.default_rng([seed, index])
    shares = _shares(weights)
    while True:
        yield from _picks(rng, shares)


def _shares(weights: Sequence[float]) -> np.ndarray:
    """Return the upper end of each kind's share of 0 to 1."""
    ends: np.ndarray = np.cumsum(weights) / np.sum(weights)
    ends[-1] = 1.0
    return ends


def _picks(rng: np.random.Generator, shares: np.ndarray) -> list[Pick]:
    kinds = np.searchsorted(shares, rng.random(_CHUNK), side="right").tolist()
    return list(map(Pick, kinds, rng.random(_CHUNK).tolist()))
