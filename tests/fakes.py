"""Working stand-ins: a session that waits until it is let go, one that fails on cue, an observer that remembers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from lookalike_server.domain import Floats, Pixels
from lookalike_server.protocols import Observer, Session


@dataclass
class RecordingObserver(Observer):
    """Remembers everything it is told."""

    batches: list[int] = field(default_factory=list)
    recalls: list[tuple[str, float]] = field(default_factory=list)
    failed_batches: list[tuple[int, Exception]] = field(default_factory=list)
    cancelled: int = 0
    expired: int = 0
    reused: list[bool] = field(default_factory=list)
    fallbacks: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    graphs_built: list[str] = field(default_factory=list)
    unusable_files: list[tuple[str, str, str]] = field(default_factory=list)
    unkept_files: list[tuple[str, Exception]] = field(default_factory=list)
    care_faults: list[tuple[str, Exception]] = field(default_factory=list)
    item_faults: list[Exception] = field(default_factory=list)
    calls: list[tuple[str, str, str, Exception | None]] = field(default_factory=list)

    def batch_ran(self, size: int, padded: int, seconds: float) -> None:
        """Remember its size."""
        self.batches.append(size)

    def batch_failed(self, size: int, error: Exception) -> None:
        """Remember it."""
        self.failed_batches.append((size, error))

    def entries_dropped(self, cancelled: int, expired: int) -> None:
        """Count them."""
        self.cancelled += cancelled
        self.expired += expired

    def recall_measured(self, category: str, recall: float) -> None:
        """Remember it by category."""
        self.recalls.append((category, recall))

    def search_fell_back(self, category: str) -> None:
        """Remember the category."""
        self.fallbacks.append(category)

    def category_loaded(self, category: str, products: int, left: int) -> None:
        """Remember the category."""
        self.loaded.append(category)

    def graph_built(self, category: str, products: int) -> None:
        """Remember the category."""
        self.graphs_built.append(category)

    def index_care_failed(self, category: str, error: Exception) -> None:
        """Remember it."""
        self.care_faults.append((category, error))

    def index_file_unusable(self, category: str, file: str, reason: str) -> None:
        """Remember it."""
        self.unusable_files.append((category, file, reason))

    def index_file_failed(self, category: str, error: Exception) -> None:
        """Remember it."""
        self.unkept_files.append((category, error))

    def photo_reused(self, *, cached: bool) -> None:
        """Count it."""
        self.reused.append(cached)

    def item_failed(self, error: Exception) -> None:
        """Remember it."""
        self.item_faults.append(error)

    def call_ended(self, method: str, code: str, seconds: float, request_id: str, fault: Exception | None) -> None:
        """Remember all but the time."""
        self.calls.append((method, code, request_id, fault))


class MeanColourSession(Session):
    """A real, if small, embedding: the mean colour, so that every answer can be told from every other."""

    provider = "MeanColour"
    fixed_shapes = False
    gains_from_lanes = False

    def run(self, photos: Pixels) -> Floats:
        """Embed uint8 [n, height, width, 3]: float32 [n, 3]."""
        means: Floats = photos.astype(np.float32).mean(axis=(1, 2))
        return means


class Wrapped(Session):
    """Another session's properties."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def provider(self) -> str:
        """The other session's."""
        return self._session.provider

    @property
    def fixed_shapes(self) -> bool:
        """The other session's."""
        return self._session.fixed_shapes

    @property
    def gains_from_lanes(self) -> bool:
        """The other session's."""
        return self._session.gains_from_lanes

    def close(self) -> None:
        """Close the other session."""
        self._session.close()


class HeldSession(Wrapped):
    """Passes on to another session, but while held each run waits to be let go: how tests make a queue."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._free = threading.Event()
        self._free.set()
        self.waiting = threading.Event()
        """Set once a run is being held."""
        self.sizes: list[int] = []

    def hold(self) -> None:
        """From now on runs wait."""
        self.waiting.clear()
        self._free.clear()

    def let_go(self) -> None:
        """Let the waiting run, and all later ones, go on."""
        self._free.set()

    def run(self, photos: Pixels) -> Floats:
        """Wait if held, then run."""
        if not self._free.is_set():
            self.waiting.set()
        if not self._free.wait(timeout=60):
            raise TimeoutError("the test never let the session go")
        self.sizes.append(len(photos))
        return self._session.run(photos)


class SlowSession(Wrapped):
    """Passes on to another session, over and over until each run has taken this many seconds."""

    def __init__(self, session: Session, seconds: float) -> None:
        super().__init__(session)
        self._seconds = seconds

    def run(self, photos: Pixels) -> Floats:
        """Run, for so long."""
        end = time.perf_counter() + self._seconds
        embeddings = self._session.run(photos)
        while time.perf_counter() < end:
            embeddings = self._session.run(photos)
        return embeddings


class FailingSession(Wrapped):
    """Passes on to another session, and from `begin` on raises on the runs that `fails` picks by number, from 0."""

    def __init__(self, session: Session, fails: Callable[[int], bool]) -> None:
        super().__init__(session)
        self._fails = fails
        self._runs: int | None = None

    def begin(self) -> None:
        """Count from here: warming up is over."""
        self._runs = 0

    def run(self, photos: Pixels) -> Floats:
        """Raise or run."""
        if self._runs is not None:
            number, self._runs = self._runs, self._runs + 1
            if self._fails(number):
                raise RuntimeError(f"run {number} fails by request; secret detail")
        return self._session.run(photos)
