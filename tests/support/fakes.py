"""Working fakes: a session that waits until it is let go, one that fails on cue, an observer that keeps every event."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from lookalike_server.domain import events
from lookalike_server.domain.inference import Floats, Pixels
from lookalike_server.domain.protocols import Session

E = TypeVar("E", bound=events.Event)


class RecordingObserver:
    """Keeps every event, and shows those of each kind."""

    def __init__(self) -> None:
        self.events: list[events.Event] = []

    def __call__(self, event: events.Event) -> None:
        """Keep it."""
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def batches(self) -> list[int]:
        """The size of every batch that ran."""
        return [event.size for event in self.of(events.BatchCompleted)]

    @property
    def failed_batches(self) -> list[tuple[int, Exception]]:
        """Size and error of every batch that failed."""
        return [(event.size, event.error) for event in self.of(events.BatchFailed)]

    @property
    def split_batches(self) -> list[int]:
        """The size of every batch of which the halves ran."""
        return [event.size for event in self.of(events.BatchSplit)]

    @property
    def cancelled(self) -> int:
        """How many images left the queue because their callers had gone."""
        return sum(event.cancelled for event in self.of(events.ImagesDropped))

    @property
    def expired(self) -> int:
        """How many images left the queue because their deadlines had passed."""
        return sum(event.expired for event in self.of(events.ImagesDropped))

    @property
    def reused(self) -> list[bool]:
        """For each embedding that was reused, whether it came from the cache."""
        return [event.cached for event in self.of(events.EmbeddingReused)]

    @property
    def recalls(self) -> list[tuple[str, float]]:
        """Category and recall of every search that was repeated exactly."""
        return [(event.category, event.recall) for event in self.of(events.RecallMeasured)]

    @property
    def fallbacks(self) -> list[str]:
        """The category of every search that fell back."""
        return [event.category for event in self.of(events.SearchFellBack)]

    @property
    def loaded(self) -> list[str]:
        """The categories in the order in which they were loaded."""
        return [category for event in self.of(events.CategoriesLoaded) for category in event.categories]

    @property
    def graphs_built(self) -> list[str]:
        """The category of every graph that was built."""
        return [event.category for event in self.of(events.GraphBuilt)]

    @property
    def unusable_files(self) -> list[tuple[str, str, str]]:
        """Category, file and reason of every graph file that could not be used."""
        return [(event.category, event.file, event.reason) for event in self.of(events.GraphFileUnusable)]

    @property
    def failed_files(self) -> list[tuple[str, Exception]]:
        """Category and error of every graph file that could not be written or removed."""
        return [(event.category, event.error) for event in self.of(events.GraphFileFailed)]

    @property
    def maintenance_faults(self) -> list[tuple[str, Exception]]:
        """Category and error of every failed maintenance."""
        return [(event.category, event.error) for event in self.of(events.IndexMaintenanceFailed)]

    @property
    def calls(self) -> list[tuple[str, str, str, Exception | None]]:
        """Method, code, request id and fault of every call that ended."""
        return [(event.method, event.code, event.request_id, event.fault) for event in self.of(events.CallCompleted)]


class MeanColorSession(Session):
    """A real, if small, embedding: the mean color, so that results of different images differ."""

    provider = "MeanColor"
    library = "NumPy"
    precision = "fp32"
    fixed_shapes = False
    gains_from_concurrency = False

    def run(self, images: Pixels) -> Floats:
        """Embed uint8 [n, height, width, 3]: float32 [n, 3]."""
        means: Floats = images.astype(np.float32).mean(axis=(1, 2))
        return means


class Wrapped(Session):
    """Another session, with its properties.

    Its runs block the caller's thread; where `asynchronous` is set, each is started in a thread that calls back.
    """

    asynchronous = False

    def __init__(self, session: Session) -> None:
        self._session = session

    def start(self, images: Sequence[Pixels], done: Callable[[Floats | Exception], None]) -> None:
        """Run in a thread of its own."""
        batch = np.stack(images)

        def run() -> None:
            try:
                result: Floats | Exception = self.run(batch)
            except Exception as error:  # noqa: BLE001 - whatever the run raises is its outcome
                result = error
            done(result)

        threading.Thread(target=run, name="started-run").start()

    @property
    def library(self) -> str:
        """The other session's."""
        return self._session.library

    @property
    def precision(self) -> str:
        """The other session's."""
        return self._session.precision

    @property
    def provider(self) -> str:
        """The other session's."""
        return self._session.provider

    @property
    def fixed_shapes(self) -> bool:
        """The other session's."""
        return self._session.fixed_shapes

    @property
    def gains_from_concurrency(self) -> bool:
        """The other session's."""
        return self._session.gains_from_concurrency

    def close(self) -> None:
        """Close the other session."""
        self._session.close()


class HeldSession(Wrapped):
    """Runs another session, but while held each run waits to be let go, so that a queue forms."""

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

    async def caught(self) -> None:
        """Return once a run is being held; fails where none comes."""
        assert await asyncio.to_thread(self.waiting.wait, 60)

    def run(self, images: Pixels) -> Floats:
        """Wait if held, then run."""
        if not self._free.is_set():
            self.waiting.set()
        if not self._free.wait(timeout=240):
            raise TimeoutError("the test never let the session go")
        self.sizes.append(len(images))
        return self._session.run(images)


class SlowSession(Wrapped):
    """Runs another session over and over until each run has taken this many seconds."""

    def __init__(self, session: Session, seconds: float) -> None:
        super().__init__(session)
        self._seconds = seconds

    def run(self, images: Pixels) -> Floats:
        """Run for at least that long."""
        end = time.perf_counter() + self._seconds
        embeddings = self._session.run(images)
        while time.perf_counter() < end:
            embeddings = self._session.run(images)
        return embeddings


class FailingSession(Wrapped):
    """Runs another session, and from `begin` on raises in the runs that `fails` picks by number, from 0."""

    def __init__(self, session: Session, fails: Callable[[int], bool]) -> None:
        super().__init__(session)
        self._fails = fails
        self._runs: int | None = None

    def begin(self) -> None:
        """Count runs from now on, because warming up is over."""
        self._runs = 0

    def run(self, images: Pixels) -> Floats:
        """Raise or run."""
        if self._runs is not None:
            number, self._runs = self._runs, self._runs + 1
            if self._fails(number):
                raise RuntimeError(f"run {number} fails by request; secret detail")
        return self._session.run(images)
