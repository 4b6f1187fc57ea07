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
from support.scripted_server import ScriptedServer

Call = Callable[..., Any]


def test_a_ready_server_is_not_waited_for(call: Call) -> None:
    """SERVING as the first status is enough."""
    call("wait_until_ready", 30.0)


def test_the_wait_ends_when_the_server_says_serving(call: Call, server: ScriptedServer) -> None:
    """A server that loads its model is waited for while its health says NOT_SERVING."""
    server.set_serving(serving=False)
    server.on_watch = lambda: server.set_serving(serving=True)
    call("wait_until_ready", 30.0)


def test_the_wait_spans_a_restart(call: Call, server: ScriptedServer) -> None:
    """A server that does not listen yet is waited for."""
    server.stop()
    starter = threading.Thread(target=server.start)
    starter.start()
    try:
        call("wait_until_ready", 60.0)
    finally:
        starter.join()


def test_the_wait_has_an_end(call: Call, server: ScriptedServer) -> None:
    """A server that does not get ready in time is DEADLINE_EXCEEDED."""
    server.set_serving(serving=False)
    with pytest.raises(LookalikeError, match=f"{server.address} was not ready within 0.2 s") as caught:
        call("wait_until_ready", 0.2)
    assert caught.value.code is StatusCode.DEADLINE_EXCEEDED


def test_no_server_is_reported(call: Call, server: ScriptedServer) -> None:
    """Where nothing listens the message says that there was no response."""
    server.stop()
    with pytest.raises(LookalikeError, match="no response") as caught:
        call("wait_until_ready", 0.2)
    assert caught.value.code is StatusCode.DEADLINE_EXCEEDED


def test_the_last_status_is_in_the_message() -> None:
    """The error of a wait has the last status of the health service."""
    readiness = Readiness("shop:1", 5.0, now=100.0)
    assert not readiness.is_serving(HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING))
    assert readiness.seconds_left(104.0) == 1.0
    with pytest.raises(LookalikeError, match=r"shop:1 was not ready within 5 s \(last: NOT_SERVING\)"):
        readiness.seconds_left(105.0)


def test_a_final_rejection_ends_the_wait(call: Call, server: ScriptedServer) -> None:
    """A permanent error ends the wait at once with the server's code."""
    server.health_rejection = StatusCode.UNAUTHENTICATED
    with pytest.raises(LookalikeError) as caught:
        call("wait_until_ready", 60.0)
    assert caught.value.code is StatusCode.UNAUTHENTICATED
