"""Quotas: how much of the server one caller may use, from a TOML file; without one nobody has a quota.

[default]                            # every caller that is not named below
requests_per_second = 50             # also the most at once after a pause
image_bytes_per_second = 20_000_000  # of requests that have images
max_in_flight = 64                   # calls and streams at once

[callers.checkout]                   # a token's name in the file of keys, or an address
weight = 4                           # its share where callers compete; 1 for everybody else
"""

from __future__ import annotations

import time
import tomllib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lookalike_server.domain.calls import Caller
from lookalike_server.domain.errors import Code, LookalikeError, Rejection, exhausted

_MAX_CALLERS = 10_000
"""Callers remembered at once; beyond them those that are gone the longest are forgotten."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What one caller may use; None for as much as there is.

    Attributes:
        requests_per_second: Calls and items of streams a second, and the most at once after a pause.
        image_bytes_per_second: Bytes a second of requests that have images.
        max_in_flight: Calls and streams at once.
        weight: The caller's share where callers compete, relative to theirs.
    """

    requests_per_second: float | None = None
    image_bytes_per_second: float | None = None
    max_in_flight: int | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class QuotaTable:
    """The quota of each caller by name, and everybody else's."""

    default: Quota
    callers: Mapping[str, Quota]

    def of(self, name: str) -> Quota:
        """Return a caller's quota."""
        return self.callers.get(name, self.default)


UNLIMITED = QuotaTable(Quota(), {})


class _Bucket:
    """A token bucket that holds one second's worth and may be overdrawn: the size of a request is known only later."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._level = rate
        self._filled = now

    def seconds_until_positive(self, now: float) -> float:
        self._level = min(self._rate, self._level + (now - self._filled) * self._rate)
        self._filled = now
        return 0.0 if self._level > 0 else (1e-3 * self._rate - self._level) / self._rate

    def take(self, amount: float) -> None:
        self._level -= amount


@dataclass(slots=True)
class Usage:
    """What a caller uses at present.

    Attributes:
        caller: Who it is.
        quota: What it may use.
        requests: Its bucket of calls, if it has such a quota.
        image_bytes: Its bucket of bytes, if it has such a quota.
        in_flight: Calls and streams that have begun and not ended.
    """

    caller: Caller
    quota: Quota
    requests: _Bucket | None
    image_bytes: _Bucket | None
    in_flight: int = 0

    def leave(self) -> None:
        """Count one call out."""
        self.in_flight -= 1


class Quotas:
    """Counts what each caller uses. Lives on one event loop."""

    def __init__(self, table: QuotaTable = UNLIMITED, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing used."""
        self._table = table
        self._clock = clock
        self._usage: OrderedDict[str, Usage] = OrderedDict()
        self._is_limited = table != UNLIMITED

    @property
    def remembered(self) -> int:
        """How many callers are remembered."""
        return len(self._usage)

    def enter(self, name: str) -> Usage:
        """Count one call of the caller with this name in, until it leaves.

        Raises:
            LookalikeError: RESOURCE_EXHAUSTED with the time after which a retry makes sense.
        """
        usage = self._usage.get(name) or self._begin(name)
        if self._is_limited:
            self._check(usage)
        usage.in_flight += 1
        return usage

    def take_image_bytes(self, caller: Caller, count: int) -> float:
        """Count the bytes of a request, and return for how many seconds the caller is over its quota."""
        usage = self._usage.get(caller.name)
        bucket = usage.image_bytes if usage else None
        if bucket is None:
            return 0.0
        bucket.take(count)
        return bucket.seconds_until_positive(self._clock())

    def _check(self, usage: Usage) -> None:
        quota, now = usage.quota, self._clock()
        if quota.max_in_flight is not None and usage.in_flight >= quota.max_in_flight:
            raise _over(f"{quota.max_in_flight} calls at once", 0.1)
        if usage.requests is not None:
            wait = usage.requests.seconds_until_positive(now)
            if wait:
                raise _over(f"{quota.requests_per_second:g} requests a second", wait)
        if usage.image_bytes is not None:
            wait = usage.image_bytes.seconds_until_positive(now)
            if wait:
                raise _over(f"{quota.image_bytes_per_second:,.0f} bytes of images a second", wait)
        if usage.requests is not None:
            usage.requests.take(1)

    def _begin(self, name: str) -> Usage:
        quota, now = self._table.of(name), self._clock()
        usage = self._usage[name] = Usage(
            Caller(name, quota.weight),
            quota,
            _Bucket(quota.requests_per_second, now) if quota.requests_per_second else None,
            _Bucket(quota.image_bytes_per_second, now) if quota.image_bytes_per_second else None,
        )
        self._forget_the_oldest()
        return usage

    def _forget_the_oldest(self) -> None:
        if len(self._usage) <= _MAX_CALLERS:
            return
        for name, usage in list(self._usage.items())[: _MAX_CALLERS // 10]:
            if not usage.in_flight:
                del self._usage[name]


def read_quotas(path: Path) -> QuotaTable:
    """Read a file of quotas.

    Raises:
        LookalikeError: FAILED_PRECONDITION when it cannot be read, or has a key or a value that is not as above.
    """
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _wrong(f"cannot read the quotas {path}: {error}") from None
    for key in read:
        if key not in ("default", "callers"):
            raise _wrong(f"{path}: {key} is not known; write [default] and [callers.NAME]")
    callers = read.get("callers", {})
    if not isinstance(callers, dict):
        raise _wrong(f"{path}: callers must be tables, as in [callers.NAME]")
    default = _quota(path, "default", read.get("default", {}))
    return QuotaTable(default, {name: _quota(path, f"callers.{name}", each) for name, each in callers.items()})


def _quota(path: Path, table: str, values: Any) -> Quota:
    if not isinstance(values, dict):
        raise _wrong(f"{path}: {table} must be a table")
    known = {field.name for field in fields(Quota)}
    for key, value in values.items():
        if key not in known:
            raise _wrong(f"{path}: {table}.{key} is not known; there are {', '.join(sorted(known))}")
        # bool is an int in Python, and no quota
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise _wrong(f"{path}: {table}.{key} is {value!r}; it must be a number above 0")
        if key == "max_in_flight" and not isinstance(value, int):
            raise _wrong(f"{path}: {table}.{key} is {value!r}; it must be a whole number")
    return Quota(**values)


def _over(quota: str, retry_after: float) -> LookalikeError:
    return exhausted(f"this caller is over its quota of {quota}; try again later", retry_after, Rejection.QUOTA)


def _wrong(message: str) -> LookalikeError:
    return LookalikeError(Code.FAILED_PRECONDITION, message)
