"""Waiting for a server that is not ready yet, with both clients."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from grpc import StatusCode
from grpc_health.v1.health_pb2 import HealthCheckResponse

from lookalike_client import LookalikeError
from lookalike_client.readiness import Readiness
from support.fake_server import FakeServer

Ask = Callable[..., Any]


def test_a_ready_server_is_not_waited_for(ask: Ask) -> None:
    """SERVING at the first look is enough."""
    ask("wait_until_ready", 30.0)


def test_the_wait_ends_when_the_server_says_serving(ask: Ask, fake: FakeServer) -> None:
    """A server that loads its model is waited for while its health says NOT_SERVING."""
    fake.set_serving(serving=False)
    fake.on_watch = lambda: fake.set_serving(serving=True)
    ask("wait_until_ready", 30.0)


def test_the_wait_spans_a_restart(ask: Ask, fake: FakeServer) -> None:
    """A server that is not there yet is waited for until it is."""
    fake.stop()
    starter = threading.Thread(target=fake.start)
    starter.start()
    try:
        ask("wait_until_ready", 60.0)
    finally:
        starter.join()


def test_the_wait_has_an_end(ask: Ask, fake: FakeServer) -> None:
    """A server that does not get ready in time is DEADLINE_EXCEEDED."""
    fake.set_serving(serving=False)
    with pytest.raises(LookalikeError, match=f"{fake.address} was not ready within 0.2 s") as caught:
        ask("wait_until_ready", 0.2)
    assert caught.value.code is StatusCode.DEADLINE_EXCEEDED


def test_nobody_there_is_said(ask: Ask, fake: FakeServer) -> None:
    """Where nothing listens the message says that nothing answered."""
    fake.stop()
    with pytest.raises(LookalikeError, match="no answer") as caught:
        ask("wait_until_ready", 0.2)
    assert caught.value.code is StatusCode.DEADLINE_EXCEEDED


def test_the_servers_last_word_is_in_the_message() -> None:
    """A wait that ends in vain tells what the health service said last."""
    readiness = Readiness("shop:1", 5.0, now=100.0)
    assert not readiness.is_serving(HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING))
    assert readiness.seconds_left(104.0) == 1.0
    with pytest.raises(LookalikeError, match=r"shop:1 was not ready within 5 s \(last: NOT_SERVING\)"):
        readiness.seconds_left(105.0)


def test_a_final_rejection_ends_the_wait(ask: Ask, fake: FakeServer) -> None:
    """What will not pass by itself ends the wait at once with the server's code."""
    fake.health_rejection = StatusCode.UNAUTHENTICATED
    with pytest.raises(LookalikeError) as caught:
        ask("wait_until_ready", 60.0)
    assert caught.value.code is StatusCode.UNAUTHENTICATED
