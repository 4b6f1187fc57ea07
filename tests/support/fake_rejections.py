"""The errors that the fake server answers with: canonical codes, google.rpc details, and the API's trailers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2


@dataclass
class Rejection:
    """An error to answer with.

    Attributes:
        code: The canonical code.
        message: The sentence.
        violations: Pairs of field and description.
        retry_after: Seconds, sent as RetryInfo.
        pushback_ms: Sent as `grpc-retry-pushback-ms`; negative means: do not retry.
        request_id: Sent as `x-request-id`.
        details: Sent instead of google.rpc's details.
    """

    code: grpc.StatusCode
    message: str = "no"
    violations: Sequence[tuple[str, str]] = ()
    retry_after: float | None = None
    pushback_ms: int | None = None
    request_id: str = "r1"
    details: bytes | None = None

    def status(self) -> status_pb2.Status:
        """The same as google.rpc has it."""
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        details: list[Message] = []
        if self.violations:
            details.append(
                error_details_pb2.BadRequest(
                    field_violations=[
                        error_details_pb2.BadRequest.FieldViolation(field=name, description=description)
                        for name, description in self.violations
                    ]
                )
            )
        if self.retry_after is not None:
            delay = Duration()
            delay.FromNanoseconds(int(self.retry_after * 1e9))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        for detail in details:
            status.details.add().Pack(detail)
        return status


def reject(context: grpc.ServicerContext, rejection: Rejection) -> NoReturn:
    """SearchResult with an error, with details and trailers as the API has them."""
    trailers: list[tuple[str, str | bytes]] = [
        ("x-request-id", rejection.request_id),
        ("grpc-status-details-bin", rejection.details or rejection.status().SerializeToString()),
    ]
    if rejection.pushback_ms is not None:
        trailers.append(("grpc-retry-pushback-ms", str(rejection.pushback_ms)))
    context.set_trailing_metadata(tuple(trailers))
    context.abort(rejection.code, rejection.message)


def invalid(name: str, description: str) -> Rejection:
    """INVALID_ARGUMENT for one field, in the words of the real server."""
    return Rejection(grpc.StatusCode.INVALID_ARGUMENT, f"{name}: {description}", [(name, description)])
