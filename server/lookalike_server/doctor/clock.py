"""The clock: certificates, tokens and the log are judged by it."""

from __future__ import annotations

import ctypes
import sys
from datetime import UTC, datetime

from lookalike_server.doctor.finding import Finding, error, ok, warning

_EARLIEST = datetime(2025, 1, 1, tzinfo=UTC)
_LATEST = datetime(2100, 1, 1, tzinfo=UTC)
_REMEDY = "synchronize this machine's clock (chrony, systemd-timesyncd, or the host's)"

_UNSYNCHRONIZED = 0x40  # STA_UNSYNC of <sys/timex.h>
_TIMEX_BYTES = 512  # more than `struct timex` has anywhere
_TIMEX_STATUS = 5  # the sixth field, each a long as far as there


def check_clock(now: datetime, *, synchronized: bool | None, judges_tokens: bool) -> Finding:
    """Check that the year is one in which this can run, and that the clock is kept right.

    Args:
        now: What the clock says, with a time zone.
        synchronized: What the kernel says about NTP; None where it says nothing.
        judges_tokens: Whether tokens or clients' certificates are judged by it.
    """
    facts = {"now": now.isoformat(timespec="seconds"), "synchronized": synchronized}
    if not _EARLIEST <= now < _LATEST:
        return error("clock", f"the clock says {now:%Y-%m-%d}, which cannot be", _REMEDY, **facts)
    if synchronized is False and judges_tokens:
        return warning(
            "clock",
            f"{now:%Y-%m-%d %H:%M} UTC, not kept by NTP, and tokens and certificates are judged by it",
            _REMEDY,
            **facts,
        )
    state = {
        True: "kept by NTP",
        False: "not kept by NTP, as far as the kernel knows",
        None: "NTP's state is not known",
    }
    return ok("clock", f"{now:%Y-%m-%d %H:%M} UTC, {state[synchronized]}", **facts)


def is_synchronized() -> bool | None:
    """Ask the kernel whether NTP keeps the clock right; None where it does not say."""
    if not sys.platform.startswith("linux") or ctypes.sizeof(ctypes.c_long) != 8:
        return None
    # All zeros: change nothing, which needs no right.
    timex = (ctypes.c_long * (_TIMEX_BYTES // 8))()
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    except (AttributeError, OSError):
        return None
    if state < 0:
        return None
    status = ctypes.c_int.from_buffer(timex, _TIMEX_STATUS * 8).value
    return not status & _UNSYNCHRONIZED
