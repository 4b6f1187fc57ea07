"""The client's one exception, read from gRPC's status and the `google.rpc` details."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from lookalike_client.connection_failures import connection_failure

# What grpc.aio reports instead of the server's status when a stream ends while it is written to
# (https://github.com/grpc/grpc/issues/36066).
_LOST = "Internal error from Core"

# Part of what gRPC says of a message that either side rejects for its size.
_TOO_LARGE = "essage larger than max"

_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Violation:
    """An invalid field of the request, for instance `products[2].images[0].encoded`, and what is wrong with it."""

    field: str
    description: str

    def __str__(self) -> str:
        return f"{self.field}: {self.description}"


class LookalikeError(Exception):
    """A call that was rejected, failed, or got no response; `str()` of it is written for users.

    Attributes:
        code: The gRPC status code.
        message: The server's message, or gRPC's where no server responded.
        violations: The invalid fields, if any.
        retry_after: Seconds after which to retry, or None.
        request_id: The server's id of the call, to find it in the log; None where no server responded.
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
        """What is wrong, without the code: the invalid fields where there are any, else the message."""
        return "; ".join(map(str, self.violations)) or self.message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.reason}" if self.reason else self.code.name


def code_of(number: int) -> grpc.StatusCode:
    """Return the status code of a `google.rpc.Code`; UNKNOWN for one that gRPC does not have."""
    return _BY_NUMBER.get(number, grpc.StatusCode.UNKNOWN)


def read_details(status: status_pb2.Status) -> tuple[tuple[Violation, ...], float | None]:
    """Return the violations, and the seconds after which to retry, from the details of a status."""
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
    """Convert an error of `grpc` or `grpc.aio`."""
    if error.code() is grpc.StatusCode.INTERNAL and error.details() == _LOST:
        # UNAVAILABLE, because a retry makes sense: most of the time it gets the server's status
        return LookalikeError(grpc.StatusCode.UNAVAILABLE, "the server ended the stream, and gRPC lost its status")
    # types-grpcio types metadata as objects; they are pairs
    pairs = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    trailers = dict(pairs)
    violations, retry_after = read_details(_status(trailers.get("grpc-status-details-bin")))
    if retry_after is None:
        retry_after = _pushback(trailers.get("grpc-retry-pushback-ms"))
    request_id = trailers.get("x-request-id")
    message = error.details() or ""
    if failure := connection_failure(message):
        message = f"{failure.value} ({message})"
    if _TOO_LARGE in message:
        message += "; send fewer products at once or smaller images, or raise the server's --max-message-bytes"
    return LookalikeError(
        error.code(),
        message,
        violations,
        retry_after,
        request_id if isinstance(request_id, str) else None,
    )


def _status(encoded: str | bytes | None) -> status_pb2.Status:
    # not read with grpcio-status, which raises where a proxy has rewritten the code or the message
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
