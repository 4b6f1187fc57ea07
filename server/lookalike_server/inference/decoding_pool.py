"""The threads that decode images, behind a queue that bounds how many and how much they decode at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar, TypeVarTuple

from lookalike_server.domain.calls import Call
from lookalike_server.domain.errors import LookalikeError
from lookalike_server.domain.events import ImagesDropped, Observer, StageCompleted
from lookalike_server.domain.inference import Image, Pixels
from lookalike_server.domain.observing import receiver
from lookalike_server.domain.stages import stage
from lookalike_server.inference.image_decoding import ImageDecoder
from lookalike_server.scheduling.fair_queue import FairQueue

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class DecodingPool:
    """Lives on one event loop.

    Attributes:
        queue: In front of the threads; its units are bytes of decoded images.
    """

    def __init__(
        self,
        threads: Executor,
        count: int,
        max_bytes: int,
        bulk_wait: float,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
    ) -> None:
        """Decode in these threads.

        Args:
            threads: The threads.
            count: How many they are.
            max_bytes: Bytes that images may take while they are decoded; one that needs more is decoded alone.
            bulk_wait: Seconds after which a bulk image goes before interactive ones.
            clock: The time in seconds, as deadlines count it.
            observer: Receives how long images took, and which of them left the queue.
        """
        self._threads = threads
        self.queue = FairQueue(count, max_bytes, bulk_wait=bulk_wait, clock=clock)
        self._clock = clock
        self._observer = observer
        self._on_decoded = receiver(observer, StageCompleted) if observer is not None else None

    async def decode(self, decoder: ImageDecoder, image: Image, call: Call, *, bulk: bool) -> tuple[Pixels, float]:
        """Return the model's input, and the seconds that decoding took.

        Raises:
            LookalikeError: As `ImageDecoder.decode`; DEADLINE_EXCEEDED when the deadline passed in the queue.
        """
        header = decoder.header(image)
        units = decoder.decoded_bytes(image, header)
        entered = False
        try:
            async with self.queue.enter(call, units, bulk=bulk):
                entered = True
                started = self._clock()
                with stage("decode", call, self._observer):
                    pixels = await asyncio.get_running_loop().run_in_executor(
                        self._threads, decoder.decode, image, header
                    )
                seconds = self._clock() - started
        except (LookalikeError, asyncio.CancelledError) as error:
            if not entered and self._observer is not None:
                expired = isinstance(error, LookalikeError)  # the only error of a queue
                self._observer(ImagesDropped(cancelled=int(not expired), expired=int(expired)))
            raise
        if self._on_decoded is not None:
            self._on_decoded(StageCompleted("decode", seconds))
        return pixels, seconds

    async def run(self, call: Call, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Run a function in one of the threads, as bulk work."""
        async with self.queue.enter(call, bulk=True):
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
