"""Errors as `google.rpc.Status`: the table of codes, and details with the field at fault and the retry delay."""

from __future__ import annotations

from typing import NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from lookalike_server.domain.errors import Code, LookalikeError, ServerError

CODES = {code.value[0]: code for code in grpc.StatusCode}
"""gRPC's codes by number."""

GRPC_CODES = {code: grpc.StatusCode[code.name] for code in Code}

DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"  # gRPC's built-in retries obey this and know nothing of RetryInfo

INTERNAL = LookalikeError(Code.INTERNAL, "the server failed; its log has the cause under this call's x-request-id")


def to_status(error: Exception) -> status_pb2.Status:
    """Describe an error for the caller; one that is not meant for it becomes INTERNAL without any details."""
    public = _public_error(error)
    details: list[Message] = []
    if public.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(field=public.field, description=public.message)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if public.resource is not None:
        details.append(
            error_details_pb2.ResourceInfo(resource_type=public.resource.kind, resource_name=public.resource.name)
        )
    if public.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(_milliseconds(public.retry_after))
        details.append(retry)
    return status_pb2.Status(
        code=GRPC_CODES[public.code].value[0], message=str(public), details=[_packed(detail) for detail in details]
    )


async def abort(
    context: grpc.aio.ServicerContext[object, object], status: status_pb2.Status, error: Exception, request_id: str
) -> NoReturn:
    """End the call with this error, its status as of `to_status`, and its request id."""
    trailers = [(DETAILS_KEY, status.SerializeToString()), ("x-request-id", request_id)]
    retry_after = _public_error(error).retry_after
    if retry_after is not None:
        trailers.append((PUSHBACK_KEY, str(_milliseconds(retry_after))))
    await context.abort(CODES[status.code], status.message, tuple(trailers))


def _public_error(error: Exception) -> LookalikeError:
    if isinstance(error, ServerError):
        return error.public
    return error if isinstance(error, LookalikeError) else INTERNAL


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
