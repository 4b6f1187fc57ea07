"""The channel's options: message sizes, retries, reconnects and proxies, the same for both clients."""

from __future__ import annotations

import ipaddress
import json

import grpc
from google.protobuf.message import Message

from lookalike_client.errors import LookalikeError
from lookalike_client.tracing import trace_metadata

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""The largest message sent or received."""

_SERVICES = ("EmbeddingService", "SearchService", "CatalogService")

_SERVICE_CONFIG = {
    "methodConfig": [
        {
            # every method may be retried: upserts, updates and deletes are by id, and an idempotency key keeps even a
            # late retry from undoing what others have written since
            "name": [{"service": f"lookalike.v1.{service}"} for service in _SERVICES],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.2s",
                "maxBackoff": "5s",
                "backoffMultiplier": 2,
                # a full server sends the time to retry in `grpc-retry-pushback-ms`, which gRPC obeys
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ]
}


def reject_too_large(request: Message) -> None:
    """Reject a request that cannot be sent; gRPC would retry it in vain, and not say what to do.

    Raises:
        LookalikeError: INVALID_ARGUMENT where the request is larger than MAX_MESSAGE_BYTES.
    """
    size = request.ByteSize()
    if size > MAX_MESSAGE_BYTES:
        raise LookalikeError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"the request has {size:,} bytes; the maximum for a message is {MAX_MESSAGE_BYTES:,}: send fewer products"
            " at once, or any number of products with import_products",
        )


def channel_options(target: str) -> list[tuple[str, str | int]]:
    """Return the options of a channel to `target`."""
    options: list[tuple[str, str | int]] = [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        # gRPC does not retry a call whose request is larger than this, and its default of 256 KiB is less than an image
        ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),
        # find a restarted server soon, not after gRPC's default of up to two minutes
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 1000),
        ("grpc.max_reconnect_backoff_ms", 2000),
    ]
    if is_loopback(target):
        # a proxy in the environment is for other machines
        options.append(("grpc.enable_http_proxy", 0))
    return options


def is_loopback(target: str) -> bool:
    """Return whether a gRPC target is this machine: localhost, 127.0.0.0/8, ::1 or a unix socket."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    address = target.rsplit("/", 1)[-1].removeprefix("dns:").removeprefix("ipv4:").removeprefix("ipv6:")
    if address.startswith("["):
        host = address[1:].partition("]")[0]
    elif address.count(":") > 1:
        host = address
    else:
        host = address.partition(":")[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def call_metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call that is made now: the token, if there is one, and the current trace context."""
    authorization = (("authorization", f"Bearer {token}"),) if token else ()
    return authorization + trace_metadata()
