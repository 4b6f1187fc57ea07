"""How the processes of one server judge each other's beats."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from lookalike_server.watchdog.beats import ENGINE, SUPERVISOR, Beats
from lookalike_server.watchdog.own_time import OwnTime
from lookalike_server.watchdog.silence import HUNG_SECONDS, SUSPECT_SECONDS, Silence
from lookalike_server.watchdog.starvation import WaitedSeconds, is_stopped

SUPERVISOR_LOOK_SECONDS = 0.1
"""How often the supervisor looks, and beats."""

_LOOK_SECONDS = 0.1


class _ReportHang(Protocol):
    def __call__(self, *, hung: bool) -> None: ...


class _ReportDamage(Protocol):
    def __call__(self, *, damaged: bool) -> None: ...


def silence_of(beats: Beats, slot: int) -> Silence:
    """Judge the process of a slot, whichever that is when it is looked at."""
    return Silence(lambda: beats.last(slot), WaitedSeconds(lambda: f"/proc/{beats.pid(slot)}"))


def is_hung(silent_seconds: float, pid: int, *, loading: bool) -> bool:
    """Whether a process that has been silent for so long is to be killed.

    One that loads the model may hold its interpreter's lock for as long as that takes; it hangs only when stopped.
    """
    return silent_seconds > HUNG_SECONDS and (not loading or is_stopped(pid))


async def watch_others(
    beats: Beats, is_serving: Callable[[], bool], report_hang: _ReportHang, report_damage: _ReportDamage
) -> None:
    """Run in a frontend for good: report when the engine process falls silent or hangs, and when it goes on.

    Report as well when its catalog is damaged, and when another process has taken its place.

    A silent supervisor is logged only, because calls do not need it.
    """
    log = structlog.get_logger()
    own = OwnTime(_LOOK_SECONDS)
    engine, supervisor = silence_of(beats, ENGINE), silence_of(beats, SUPERVISOR)
    hung = alone = damaged = False
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        step = own.step()
        seconds, without_supervisor = engine.look(step), supervisor.look(step)
        if hung != (hangs := is_serving() and (seconds > SUSPECT_SECONDS or beats.is_hung(ENGINE))):
            hung = hangs
            report_hang(hung=hung)
            if hung:
                log.warning("engine_process_hangs", silent_seconds=round(seconds, 1))
            else:
                log.info("engine_process_hangs_no_more")
        if damaged != (is_damaged := beats.is_damaged(ENGINE)):
            damaged = is_damaged
            report_damage(damaged=damaged)
        if alone != (missing := without_supervisor > HUNG_SECONDS):
            alone = missing
            if alone:
                log.warning("supervisor_hangs", silent_seconds=round(without_supervisor, 1))
            else:
                log.info("supervisor_hangs_no_more")
