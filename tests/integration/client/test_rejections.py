"""How rejections arrive: one exception with what gRPC and google.rpc say, and retries that obey the server."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any, cast

import grpc
import numpy as np
import pytest
from grpc import StatusCode

from lookalike_client import Client, LookalikeError, Violation
from lookalike_client.channel import channel_options, is_loopback
from support.catalogs import image_file
from support.scripted_server import Rejection, ScriptedServer

Call = Callable[..., Any]


def rejected(call: Call, method: str = "model", *args: Any, **kwargs: Any) -> LookalikeError:
    """The error that a call raises."""
    with pytest.raises(LookalikeError) as caught:
        call(method, *args, **kwargs)
    return caught.value


def test_an_error_carries_what_the_server_says(call: Call, server: ScriptedServer) -> None:
    """Code, message, violations and request id arrive, and `str` names the field once."""
    server.rejections = [
        Rejection(
            StatusCode.INVALID_ARGUMENT,
            "image.encoded: not an image",
            violations=[("image.encoded", "not an image")],
            request_id="abc",
        )
    ]
    error = rejected(call)
    assert error.code is StatusCode.INVALID_ARGUMENT
    assert error.message == "image.encoded: not an image"
    assert error.violations == (Violation("image.encoded", "not an image"),)
    assert error.request_id == "abc"
    assert error.retry_after is None
    assert str(error) == "INVALID_ARGUMENT: image.encoded: not an image"


def test_several_violations_are_all_in_the_text(call: Call, server: ScriptedServer) -> None:
    """`str` of an error with two violations has both."""
    server.rejections = [
        Rejection(StatusCode.INVALID_ARGUMENT, "two fields", violations=[("k", "too large"), ("category", "required")])
    ]
    assert str(rejected(call)) == "INVALID_ARGUMENT: k: too large; category: required"


def test_the_time_to_wait_comes_from_retry_info(call: Call, server: ScriptedServer) -> None:
    """`retry_after` is RetryInfo's delay in seconds."""
    server.rejections = [Rejection(StatusCode.RESOURCE_EXHAUSTED, "full", retry_after=1.25, pushback_ms=-1)]
    assert rejected(call).retry_after == 1.25


def test_the_time_to_wait_comes_from_the_pushback_otherwise(call: Call, server: ScriptedServer) -> None:
    """Without RetryInfo the trailer's milliseconds count."""
    server.rejections = [Rejection(StatusCode.ABORTED, "again", pushback_ms=250)]
    assert rejected(call).retry_after == 0.25


def test_an_error_survives_pickling() -> None:
    """Workers in other processes can raise it."""
    error = LookalikeError(StatusCode.NOT_FOUND, "no", (Violation("id", "unknown"),), 2.0, "r")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (copy.code, copy.message, copy.violations, copy.retry_after, copy.request_id) == (
        StatusCode.NOT_FOUND,
        "no",
        (Violation("id", "unknown"),),
        2.0,
        "r",
    )


@pytest.mark.parametrize("code", [StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED])
def test_a_passing_rejection_is_retried(call: Call, server: ScriptedServer, code: StatusCode) -> None:
    """A server that is unavailable or full and says when to retry is called up to four times in all."""
    server.rejections = [Rejection(code, pushback_ms=1)] * 3
    assert call("model").name == "tiny"
    assert len(server.calls) == 4


def test_retries_end(call: Call, server: ScriptedServer) -> None:
    """The fourth rejection is the caller's."""
    server.rejections = [Rejection(StatusCode.UNAVAILABLE, pushback_ms=1)] * 5
    assert rejected(call).code is StatusCode.UNAVAILABLE
    assert len(server.calls) == 4


def test_a_large_image_is_retried_too(call: Call, server: ScriptedServer) -> None:
    """A request of 4 MiB is sent again, which gRPC does only with a retry buffer of that size."""
    server.rejections = [Rejection(StatusCode.UNAVAILABLE, pushback_ms=1)]
    call("embed", image_file("x" * 4 * 1024 * 1024))
    assert len(server.calls) == 2


def test_the_server_can_forbid_retries(call: Call, server: ScriptedServer) -> None:
    """A negative pushback ends it at once."""
    server.rejections = [Rejection(StatusCode.RESOURCE_EXHAUSTED, pushback_ms=-1)]
    assert rejected(call).code is StatusCode.RESOURCE_EXHAUSTED
    assert len(server.calls) == 1


def test_other_rejections_are_final(call: Call, server: ScriptedServer) -> None:
    """INVALID_ARGUMENT is not retried."""
    server.rejections = [Rejection(StatusCode.INVALID_ARGUMENT)]
    assert rejected(call).code is StatusCode.INVALID_ARGUMENT
    assert len(server.calls) == 1


def test_a_deadline_of_a_call_overrides_the_clients(call: Call, server: ScriptedServer) -> None:
    """`timeout` of a call is its gRPC deadline, and no response within it is DEADLINE_EXCEEDED."""
    release = threading.Event()
    server.hooks["UpsertProducts"] = lambda: cast("None", release.wait())
    try:
        error = rejected(call, "upsert", [], timeout=0.2)
    finally:
        release.set()
    assert error.code is StatusCode.DEADLINE_EXCEEDED
    assert error.request_id is None


def test_no_server_is_unavailable() -> None:
    """A server that does not run is UNAVAILABLE, without a request id."""
    with ScriptedServer("127.0.0.1:1") as server:
        address = server.address
    with Client(address) as client, pytest.raises(LookalikeError) as caught:
        client.model()
    assert caught.value.code is StatusCode.UNAVAILABLE
    assert caught.value.request_id is None


def test_the_token_is_sent_as_a_bearer_token(server: ScriptedServer) -> None:
    """With a token every call has `authorization: Bearer TOKEN`; without one none has."""
    with Client(server.address, token="secret") as client:
        client.model()
    with Client(server.address) as client:
        client.model()
    assert server.metadata[0]["authorization"] == "Bearer secret"
    assert "authorization" not in server.metadata[1]


def test_a_proxy_in_the_environment_does_not_break_local_use(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loopback server is reached although the environment names a proxy that does not exist."""
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("no_grpc_proxy", raising=False)
    with Client(f"localhost:{server.port}") as client:
        assert client.model().name == "tiny"


@pytest.mark.parametrize(
    ("target", "loopback"),
    [
        ("127.0.0.1:50051", True),
        ("127.9.9.9:1", True),
        ("localhost:50051", True),
        ("LOCALHOST.:50051", True),
        ("[::1]:50051", True),
        ("dns:///localhost:50051", True),
        ("ipv4:127.0.0.1:50051", True),
        ("ipv6:[::1]:50051", True),
        ("unix:/tmp/socket", True),
        ("localhost.example.com:50051", False),
        ("10.0.0.7:50051", False),
        ("dns:///shop.example:50051", False),
        ("[2001:db8::1]:50051", False),
    ],
)
def test_loopback_targets(target: str, loopback: bool) -> None:
    """Proxies are ignored for this machine's own addresses, and only for these."""
    assert is_loopback(target) is loopback
    assert (("grpc.enable_http_proxy", 0) in channel_options(target)) is loopback


def test_a_message_of_many_megabytes_passes(call: Call) -> None:
    """An image of 20 MiB, more than gRPC's default of 4 MiB, arrives."""
    assert call("embed", image_file("x" * 20 * 1024 * 1024)).values.dtype == np.float32


def test_a_garbled_detail_does_not_hide_the_error(call: Call, server: ScriptedServer) -> None:
    """When a proxy corrupts the details, the code and the message still arrive."""
    server.rejections = [Rejection(StatusCode.NOT_FOUND, "no product", details=b"\xff\xff")]
    error = rejected(call)
    assert (error.code, error.message, error.violations) == (grpc.StatusCode.NOT_FOUND, "no product", ())
