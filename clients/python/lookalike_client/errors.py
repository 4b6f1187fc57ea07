"""The one exception of the client, made from what gRPC and `google.rpc` details say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

# What grpc.aio puts in the place of the server's own status when a stream ends just as it is written to
# (https://github.com/grpc/grpc/issues/36066).
_LOST = "Internal error from Core"

# What gRPC says of a message that the other side, or its own, does not take; there it knows no more.
_TOO_LARGE = "essage larger than max"

_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Violation:
    """A field of the request that is to blame, as in `products[2].images[0].encoded`, and what is wrong."""

    field: str
    description: str

    def __str__(self) -> str:
        return f"{self.field}: {self.description}"


class LookalikeError(Exception):
    """A call that was rejected, failed, or got no answer; `str()` of it is written for the caller.

    Attributes:
        code: The canonical gRPC code.
        message: The server's sentence, or gRPC's own when no server answered.
        violations: The fields that are to blame, if any.
        retry_after: Seconds after which a repeat makes sense, or None.
        request_id: The server's name for the call, to find it in its log; None when no server answered.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        violations: tuple[Violation, ...] = (),
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(code, message, violations, retry_after, request_id)
        self.code = code
        self.message = message
        self.violations = violations
        self.retry_after = retry_after
        self.request_id = request_id

    @property
    def reason(self) -> str:
        """What is wrong, without the code: the fields to blame where there are any, else the message."""
        return "; ".join(map(str, self.violations)) or self.message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.reason}" if self.reason else self.code.name


def code_of(number: int) -> grpc.StatusCode:
    """The code with a number of `google.rpc.Code`; UNKNOWN for one that gRPC does not have."""
    return _BY_NUMBER.get(number, grpc.StatusCode.UNKNOWN)


def read_details(status: status_pb2.Status) -> tuple[tuple[Violation, ...], float | None]:
    """The violations and the seconds to wait that are among a status' details."""
    violations: list[Violation] = []
    retry_after: float | None = None
    for detail in status.details:
        request = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(request):
            violations += [Violation(each.field, each.description) for each in request.field_violations]
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    return tuple(violations), retry_after


def from_rpc_error(error: grpc.RpcError) -> LookalikeError:
    """The same failure in our words; takes the errors of `grpc` and of `grpc.aio`."""
    if error.code() is grpc.StatusCode.INTERNAL and error.details() == _LOST:
        # UNAVAILABLE, because a repeat makes sense: most of the time it gets the reason
        return LookalikeError(grpc.StatusCode.UNAVAILABLE, "the server ended the stream, and its reason was lost")
    # types-grpcio takes metadata for objects; they are pairs
    pairs = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    trailers = dict(pairs)
    violations, retry_after = read_details(_status(trailers.get("grpc-status-details-bin")))
    if retry_after is None:
        retry_after = _pushback(trailers.get("grpc-retry-pushback-ms"))
    request_id = trailers.get("x-request-id")
    message = error.details() or ""
    if _TOO_LARGE in message:
        message += "; send fewer products at once or smaller images, or have the server's --max-message-bytes raised"
    return LookalikeError(
        error.code(),
        message,
        violations,
        retry_after,
        request_id if isinstance(request_id, str) else None,
    )


def _status(encoded: str | bytes | None) -> status_pb2.Status:
    # read here and not with grpcio-status, which raises where a proxy has rewritten the code or the message
    try:
        return status_pb2.Status.FromString(encoded) if isinstance(encoded, bytes) else status_pb2.Status()
    except DecodeError:
        return status_pb2.Status()


def _pushback(milliseconds: str | bytes | None) -> float | None:
    try:
        seconds = int(milliseconds or "") / 1000
    except ValueError:
        return None
    return seconds if seconds >= 0 else None
