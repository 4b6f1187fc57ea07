"""Responds to a stream of images late, to see how many a client sends without a response."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import grpc

from lookalike.v1 import embedding_service_pb2, image_pb2

EXTRA_IMAGE_S = 0.5
"""How long to wait for an image beyond the window. A later one is missed, so this can err only by passing."""


class PatientStream:
    """An EmbedStream handler that responds only to a full window or at the end, in reverse order.

    Args:
        window: Images that must arrive before any response.
        hold: Whether to never respond.

    Attributes:
        most: The most images without a response.
        full: Set when a full window has arrived, with `hold`.
    """

    def __init__(self, window: int, *, hold: bool = False) -> None:
        self.most = 0
        self.full = threading.Event()
        self._window = window
        self._hold = hold

    def __call__(
        self, requests: Iterator[Any], _: grpc.ServicerContext
    ) -> Iterator[embedding_service_pb2.EmbedStreamResponse]:
        """Yield each image's id with a vector of dimension 1."""
        arrived: list[str] = []
        changed = threading.Condition()
        ended = False

        def read() -> None:
            nonlocal ended
            try:
                for request in requests:
                    with changed:
                        arrived.append(request.id)
                        changed.notify_all()
            except grpc.RpcError:
                pass  # the client is gone
            with changed:
                ended = True
                changed.notify_all()

        reader = threading.Thread(target=read)
        reader.start()
        sent = 0

        def waiting(count: int) -> bool:
            return ended or len(arrived) - sent >= count

        while True:
            with changed:
                changed.wait_for(partial(waiting, self._window))
                changed.wait_for(partial(waiting, self._window + 1), EXTRA_IMAGE_S)
                ids = arrived[sent:]
                self.most = max(self.most, len(ids))
                if self._hold:
                    self.full.set()
                    changed.wait_for(lambda: ended)
            if not ids and ended:
                break
            for image_id in reversed(ids):
                vector = image_pb2.Vector(values=[1.0])
                yield embedding_service_pb2.EmbedStreamResponse(id=image_id, embedding=vector)
            sent += len(ids)
        reader.join()
