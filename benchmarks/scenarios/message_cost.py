"""What one bad message costs the server's process: its peak memory and its processor time, with a token and without."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from benchmarks.bad_messages import GET_PRODUCT, MIB, BadMessage
from benchmarks.images import raw_image
from benchmarks.process_cost import Cost, cost_of
from benchmarks.processes import process_tree
from benchmarks.protocols import PROTOCOLS, field
from benchmarks.rounds import Spread
from benchmarks.scenarios.bench import Bench, Result
from benchmarks.servers.base import ServerVariant, Target
from lookalike_client.channel import call_metadata, is_loopback
from lookalike_loadtest.requests import EMBED

UNKNOWN_MIB, UNKNOWN_MS = 16.0, 50.0
"""What a message may cost before anybody knows who sent it."""

IMAGE_MIB, IMAGE_MS = 256.0, 250.0
"""What an image may cost that is accepted."""

_DEADLINE_S = 60.0
_SETTLE_S = 60.0


@dataclass(frozen=True, slots=True)
class Sent:
    """What came back: codes by their names, how often, and the seconds until the last answer."""

    codes: dict[str, int]
    seconds: float


def cost(bench: Bench, server: ServerVariant, message: BadMessage, token: str, *, authenticated: bool) -> list[Result]:
    """Send a message to servers that have just been started and called once, one server for each round.

    Args:
        bench: The means of measuring.
        server: Our server, which asks for a token.
        message: The message.
        token: The token.
        authenticated: Whether the message comes with the token.
    """
    costs: list[Cost] = []
    answers: list[Sent] = []
    requests = [message.request(number) for number in range(message.copies)]
    for _ in range(bench.rounds):
        with server.start() as target:
            _warm(bench, target, token)

            def send(target: Target = target) -> None:
                answers.append(_send(target, message, requests, token if authenticated else None))

            costs.append(cost_of(process_tree(target.pid), send, _SETTLE_S))
    accepted = message.is_image and any("OK" in sent.codes for sent in answers)
    bounds: tuple[float | None, float | None] = (None, None)
    if not authenticated:
        bounds = (UNKNOWN_MIB, UNKNOWN_MS)
    elif accepted:
        bounds = (IMAGE_MIB, IMAGE_MS if message.copies == 1 else None)
    who = f"{'with' if authenticated else 'without'} a token: {_codes(answers[-1])}"
    details: dict[str, Any] = {
        "codes": [sent.codes for sent in answers],
        "seconds": [sent.seconds for sent in answers],
        "left_mib": [each.left_bytes / MIB for each in costs],
    }
    memory = Spread.of([each.peak_bytes / MIB for each in costs])
    processor = Spread.of([each.processor_seconds * 1e3 for each in costs])
    return [
        Result.at_most(f"memory, MiB: {message.name}", who, memory, bounds[0], details),
        Result.at_most(f"processor, ms: {message.name}", who, processor, bounds[1], details),
    ]


def _codes(sent: Sent) -> str:
    return ", ".join(name if count == 1 else f"{count} {name}" for name, count in sorted(sent.codes.items()))


def _channel(target: Target, *, gzip: bool = False) -> grpc.Channel:
    options: list[tuple[str, int]] = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0 if is_loopback(target.address) else 1),
    ]
    compression = grpc.Compression.Gzip if gzip else None
    return grpc.insecure_channel(target.address, options=options, compression=compression)


def _warm(bench: Bench, target: Target, token: str) -> None:
    """Call the server once in both ways, so that what is only made for a first call is not the message's."""
    model = bench.model
    image = PROTOCOLS["lookalike"].raw(raw_image(model.height, model.width), model.height, model.width)
    with _channel(target) as channel:
        embed: Any = channel.unary_unary(EMBED)
        get: Any = channel.unary_unary(GET_PRODUCT)
        embed(image, timeout=_DEADLINE_S, metadata=call_metadata(token))
        try:
            get(field(1, b"none"), timeout=_DEADLINE_S, metadata=call_metadata(token))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise


def _send(target: Target, message: BadMessage, requests: Sequence[bytes], token: str | None) -> Sent:
    begun = time.monotonic()
    codes: dict[str, int] = {}
    with _channel(target, gzip=message.gzip) as channel:
        method: Any = channel.unary_unary(message.method)
        metadata = (*call_metadata(token), *message.metadata)
        for call in [method.future(request, timeout=_DEADLINE_S, metadata=metadata) for request in requests]:
            name = call.code().name
            codes[name] = codes.get(name, 0) + 1
    return Sent(codes, time.monotonic() - begun)
