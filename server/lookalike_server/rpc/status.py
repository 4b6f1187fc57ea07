"""Errors as `google.rpc.Status`: the table of codes, and details with the field at fault and the retry delay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from lookalike_server.domain.errors import Code, LookalikeError, Rejection, ServerError

GRPC_CODES = {code: grpc.StatusCode[code.name] for code in Code}

_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}

DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"  # gRPC's built-in retries obey this and know nothing of RetryInfo

# Of a message; a status has it twice, in base64, and once more, where a byte that is not ASCII takes three.
_MAX_MESSAGE_BYTES = 1000

INTERNAL = LookalikeError(Code.INTERNAL, "the server failed; its log has the cause under this call's x-request-id")


def to_status(error: Exception) -> status_pb2.Status:
    """Describe an error for the caller; one that is not meant for it becomes INTERNAL without any details."""
    public = _public_error(error)
    details: list[Message] = []
    if public.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_shortened(public.field), description=_shortened(public.message)
        )
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
        code=GRPC_CODES[public.code].value[0],
        message=_shortened(str(public)),
        details=[_packed(detail) for detail in details],
    )


def code_of(error: Exception) -> grpc.StatusCode:
    """Return the code that a call ends with by this error."""
    return GRPC_CODES[_public_error(error).code]


def rejection_of(error: Exception) -> Rejection | None:
    """Return why the server rejected a call that ends with this error; None where it did not."""
    return _public_error(error).rejection


def code_name(number: int) -> str:
    """Return the name of a canonical code by its number, as a status has it."""
    return _NAMES.get(number, str(number))


async def abort(
    context: grpc.aio.ServicerContext[Any, Any], error: Exception, own_trailers: Sequence[tuple[str, str]]
) -> NoReturn:
    """End the call with this error as `to_status` describes it, and with trailers of its own."""
    public = _public_error(error)
    retry = None if public.retry_after is None else _milliseconds(public.retry_after)
    if public.field is None and public.resource is None:
        # The same few over and over, above all where the server is busy.
        details = _serialized(public.code, public.message, retry)
    else:
        details = bytes(to_status(public).SerializeToString())
    trailers: list[tuple[str, str | bytes]] = [(DETAILS_KEY, details), *own_trailers]
    if retry is not None:
        trailers.append((PUSHBACK_KEY, str(retry)))
    await context.abort(GRPC_CODES[public.code], _shortened(str(public)), tuple(trailers))


@lru_cache(256)
def _serialized(code: Code, message: str, retry: int | None) -> bytes:
    error = LookalikeError(code, message, retry_after=None if retry is None else retry / 1000)
    return bytes(to_status(error).SerializeToString())


def _public_error(error: Exception) -> LookalikeError:
    if isinstance(error, ServerError):
        return error.public
    return error if isinstance(error, LookalikeError) else INTERNAL


def _shortened(text: str) -> str:
    """Cut what quotes a long value of the request: gRPC drops a call whose metadata has more than 8 KiB."""
    data = text.encode()
    return text if len(data) <= _MAX_MESSAGE_BYTES else f"{data[:_MAX_MESSAGE_BYTES].decode(errors='ignore')}..."


def _milliseconds(seconds: float) -> int:
    """Round to a millisecond, and longer times to two digits, because they are predictions."""
    milliseconds = max(1, round(seconds * 1000))
    return milliseconds if milliseconds < 100 else round(milliseconds, 1 - int(math.log10(milliseconds)))


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
