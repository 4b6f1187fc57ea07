"""A server that counts how many images of a stream are under way before it answers any."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import grpc

from lookalike.v1 import embedding_service_pb2, image_pb2
from support.fake_server import FakeServer

LOOK_S = 0.5
"""How long an image too many is looked out for. One that comes later is missed, so this can err only by passing."""


class PatientServer(FakeServer):
    """Answers a stream only once a full window waits or no more comes, and in the reverse order.

    Args:
        window: Images that must be under way before any is answered.

    Attributes:
        most: The most images that were under way.
        waiting: Set while a full window waits; with `hold`, for ever.
    """

    def __init__(self, window: int, *, hold: bool = False) -> None:
        super().__init__()
        self.most = 0
        self.waiting = threading.Event()
        self._window = window
        self._for_ever = hold

    def EmbedStream(  # noqa: N802 - the API's name
        self, request_iterator: Iterator[embedding_service_pb2.EmbedStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[embedding_service_pb2.EmbedStreamResponse]:
        """The images' names back, each with one number."""
        arrived: list[str] = []
        changed = threading.Condition()
        ended = False

        def read() -> None:
            nonlocal ended
            try:
                for request in request_iterator:
                    with changed:
                        arrived.append(request.id)
                        changed.notify_all()
            except grpc.RpcError:
                # the caller has gone
                pass
            with changed:
                ended = True
                changed.notify_all()

        reader = threading.Thread(target=read)
        reader.start()
        answered = 0

        def waiting(count: int) -> bool:
            return ended or len(arrived) - answered >= count

        while True:
            with changed:
                changed.wait_for(partial(waiting, self._window))
                changed.wait_for(partial(waiting, self._window + 1), LOOK_S)
                names = arrived[answered:]
                self.most = max(self.most, len(names))
                if self._for_ever:
                    self.waiting.set()
                    changed.wait_for(lambda: ended)
            if not names and ended:
                break
            for name in reversed(names):
                vector = image_pb2.Vector(values=[1.0])
                yield embedding_service_pb2.EmbedStreamResponse(id=name, embedding=vector)
            answered += len(names)
        reader.join()
