"""The mixed load of a soak: calls of every kind at a steady rate, also wrong ones and such as end early."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import grpc

from support.multiprocess_server import Caller
from support.soak.calls import EXPECTED, KINDS, Calls

_MAX_OPEN = 64
_TIMEOUT_SECONDS = 60.0


class MixedLoad:
    """Calls one server at a steady rate for as long as it is open.

    What a call is depends on its number alone, so two servers get the same calls. Where the server is slower than the
    rate, no more than 64 calls are open and the rate sinks.

    Attributes:
        ended: How many calls ended how, by kind and code.
        unexpected: Calls that ended as they should not, with their errors.
    """

    def __init__(self, address: str, rate: float, seed: int = 1) -> None:
        self.ended: Counter[tuple[str, str]] = Counter()
        self.unexpected: list[str] = []
        self._address, self._rate, self._random = address, rate, random.Random(seed)  # noqa: S311
        self._room = asyncio.Semaphore(_MAX_OPEN)
        self._open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Connect and begin."""
        self._caller = Caller(self._address)
        self._pacing = asyncio.create_task(self._call_steadily(Calls(self._address, self._caller)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the calls and disconnect."""
        self._pacing.cancel()
        with suppress(asyncio.CancelledError):
            await self._pacing
        async with asyncio.timeout(2 * _TIMEOUT_SECONDS):
            await asyncio.gather(*self._open)
        await self._caller.channel.close()

    async def _call_steadily(self, calls: Calls) -> None:
        names, weights = [kind.__name__ for kind in KINDS], list(KINDS.values())
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self._room.acquire()
            (name,) = self._random.choices(names, weights)
            call = getattr(calls, name)
            task = asyncio.create_task(self._counted(name, call, self._random.getrandbits(32)))
            self._open.add(task)
            task.add_done_callback(self._open.discard)
            due = max(due + 1 / self._rate, loop.time() - 1.0)
            await asyncio.sleep(due - loop.time())

    async def _counted(self, name: str, call: Callable[[random.Random], Awaitable[Any]], seed: int) -> None:
        code = "OK"
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await call(random.Random(seed))  # noqa: S311
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            if code not in EXPECTED.get(name, ()):
                self.unexpected.append(f"{name}: {code} {error.details()}")
        except asyncio.CancelledError:
            code = "CANCELLED"
        except (OSError, TimeoutError) as error:
            code = type(error).__name__
            self.unexpected.append(f"{name}: {error!r}")
        finally:
            self._room.release()
            self.ended[name, code] += 1
