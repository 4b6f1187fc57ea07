"""The thread that watches its own process: the event loop, the GPU, and the model's runs."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType

import structlog

from lookalike_server.domain.events import EventLoopLagged, Observer
from lookalike_server.domain.observing import receiver
from lookalike_server.inference.run_watch import RunWatch
from lookalike_server.watchdog.gpu_loss import GpuLoss
from lookalike_server.watchdog.loop_stalls import StallLog, stack
from lookalike_server.watchdog.own_time import OwnTime
from lookalike_server.watchdog.run_hangs import RunHangs
from lookalike_server.watchdog.silence import BEAT_SECONDS, HUNG_SECONDS, Silence
from lookalike_server.watchdog.starvation import WaitedSeconds

EXIT_STATUS = 70
"""Of a process that gave itself up: EX_SOFTWARE of sysexits.h. Whoever started it is to start it again."""

GPU_EXIT_STATUS = 71
"""Of a process that gave itself up because its GPU failed: EX_OSERR of sysexits.h. It is to be started again too."""

_LOOK_SECONDS = 0.1
_CLOSE_LOOK_SECONDS = 0.05  # while the event loop is silent
_LOG_SECONDS = 0.5  # in which the last line must be written


class Watchdog:
    """Runs while a `with` block on the event loop's thread does.

    A thread, because what it watches may hold the event loop. It logs stalls from `log_stalls` on, and gives the
    process up where the GPU fails from `watch_gpu` on, and where something hangs from `arm` on.
    """

    def __init__(self, on_beat: Callable[[], object] = lambda: None) -> None:
        """Watch the running event loop, which also calls `on_beat` with every beat."""
        self._loop = asyncio.get_running_loop()
        self._on_beat = on_beat
        self._beaten = time.monotonic()
        self._loop_thread = threading.get_ident()
        loop_thread = f"/proc/self/task/{threading.get_native_id()}"
        self._silence = Silence(lambda: self._beaten, WaitedSeconds(lambda: loop_thread))
        self._stalls: StallLog | None = None
        self._on_lag: Callable[[EventLoopLagged], None] | None = None
        self._gpu_loss: GpuLoss | None = None
        self._run_hangs: RunHangs | None = None
        self._exits_on_stall = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._beat()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()

    def log_stalls(self) -> None:
        """Log stalls from now on; for when all is loaded, because importing a library may hold the interpreter."""
        self._stalls = StallLog(self._loop_thread)

    def report_lag(self, observer: Observer) -> None:
        """Report from now on by how much each beat is late."""
        self._on_lag = receiver(observer, EventLoopLagged)

    def watch_gpu(self, runs: RunWatch, on_loss: Callable[[bool], object]) -> None:
        """Exit with GPU_EXIT_STATUS when a run of the model finds that this process cannot use its GPU any more.

        Args:
            runs: The model's runs.
            on_loss: Called in the watchdog's thread, with True, a second before the exit.
        """
        self._gpu_loss = GpuLoss(runs, on_loss)

    def arm(self, runs: RunWatch, on_hang: Callable[[bool], object], *, exits_on_stall: bool) -> None:
        """Exit with EXIT_STATUS when a run of the model hangs, or the event loop; for when all is loaded and warm.

        Args:
            runs: The model's runs under way.
            on_hang: Called in the watchdog's thread, with True when a run hangs, a second before the exit, and with
                False when it has ended in that second.
            exits_on_stall: Whether the event loop counts; not where another process sees to that.
        """
        self._run_hangs = RunHangs(runs, on_hang)
        self._exits_on_stall = exits_on_stall

    def _beat(self) -> None:
        now = time.monotonic()
        if self._on_lag is not None:
            self._on_lag(EventLoopLagged(max(0.0, now - self._beaten - BEAT_SECONDS)))
        self._beaten = now
        self._on_beat()
        self._loop.call_later(BEAT_SECONDS, self._beat)

    def _watch(self) -> None:
        own = OwnTime(_LOOK_SECONDS, time.process_time)
        silence = 0.0
        while not self._closed.wait(_LOOK_SECONDS if silence < _LOOK_SECONDS else _CLOSE_LOOK_SECONDS):
            step = own.step()
            silence = self._silence.look(step)
            if self._stalls is not None:
                self._stalls.look(silence)
            if self._exits_on_stall and silence > HUNG_SECONDS:
                self._exit("the event loop hangs")
            if self._gpu_loss is not None and self._gpu_loss.look(step):
                self._exit(f"the GPU failed: {self._gpu_loss.reason}", GPU_EXIT_STATUS)
            # A run that hung and ended late is no reason to say SERVING once the GPU is lost.
            lost = self._gpu_loss is not None and self._gpu_loss.reason
            if self._run_hangs is not None and not lost and self._run_hangs.look(step):
                self._exit("a run of the model hangs")

    def _exit(self, why: str, status: int = EXIT_STATUS) -> None:
        """End the process as it is: whatever hangs, or CUDA after an error, would keep it from closing anything."""
        # First, because the log may be what hangs: standard error is a pipe that nobody reads.
        last = threading.Timer(_LOG_SECONDS, os._exit, (status,))
        last.daemon = True
        last.start()
        structlog.get_logger().error("process_gives_up", why=why, status=status, event_loop=stack(self._loop_thread))
        os._exit(status)
