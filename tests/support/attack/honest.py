"""An honest caller beside an attack: an ordinary gRPC client that calls at a low rate and counts how its calls end."""

from __future__ import annotations

import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any, Self

import grpc

from lookalike.v1 import embedding_service_pb2, embedding_service_pb2_grpc
from support.serving import noise, raw

INTERVAL_SECONDS = 0.05
DEADLINE_SECONDS = 2.0


class HonestCaller:
    """Calls `Embed` from a thread while the block runs."""

    def __init__(self, address: str, deadline: float = DEADLINE_SECONDS) -> None:
        """Call this server, each call with a deadline in seconds."""
        self._address = address
        self._deadline = deadline
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._over = threading.Event()
        self._changed = threading.Condition()
        self.codes: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        self.seconds: list[float] = []

    @property
    def share(self) -> float:
        """Return the share of calls that ended well."""
        return self.codes["OK"] / max(1, self.codes.total())

    def made(self, calls: int) -> None:
        """Return when this caller has made so many more calls, however they ended."""
        with self._changed:
            enough = self.codes.total() + calls
            assert self._changed.wait_for(lambda: self.codes.total() >= enough, 120 + calls)

    def served_again(self) -> None:
        """Return when three calls in a row have ended well."""
        for _ in range(30):
            self.forget()
            self.made(3)
            if self.share == 1:
                return
        raise AssertionError(f"never served again: {self!r}")

    def forget(self) -> None:
        """Count from here on."""
        with self._changed:
            self.codes.clear()
            self.messages.clear()
            self.seconds.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        self.made(3)  # connected, and the server warm
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def __repr__(self) -> str:
        slow = sorted(self.seconds)[-1:] or [0.0]
        middle = sorted(self.seconds)[len(self.seconds) // 2] if self.seconds else 0.0
        return (
            f"{100 * self.share:.1f} % of {self.codes.total()} calls OK, median {1e3 * middle:.0f} ms, "
            f"slowest {1e3 * slow[0]:.0f} ms {dict(self.codes)} {dict(self.messages)}"
        )

    def _run(self) -> None:
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
        with grpc.insecure_channel(self._address, options=options) as channel:
            stub: Any = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
            request = embedding_service_pb2.EmbedRequest(image=raw(noise(1)))
            while not self._over.wait(INTERVAL_SECONDS):
                code, text, begun = "OK", "", time.monotonic()
                try:
                    stub.Embed(request, timeout=self._deadline)
                except grpc.RpcError as error:
                    code, text = error.code().name, error.details() or ""
                with self._changed:
                    self.codes[code] += 1
                    self.seconds.append(time.monotonic() - begun)
                    if code != "OK":
                        self.messages[text[:200]] += 1
                    self._changed.notify_all()
