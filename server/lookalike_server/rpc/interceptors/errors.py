"""Errors: what a call raises becomes its gRPC status, with details and trailers."""

from __future__ import annotations

from typing import Any, NoReturn

from lookalike_server.domain.errors import LookalikeError, deadline_exceeded
from lookalike_server.rpc.call_context import RECORD, Context
from lookalike_server.rpc.interceptors.base import Behavior, CallInterceptor, Method
from lookalike_server.rpc.status import CODES, abort, to_status


class ErrorsInterceptor(CallInterceptor):
    """Ends a failed call; one that was cancelled has no caller left, so it is only recorded."""

    async def intercept(self, method: Method, proceed: Behavior, request: Any, context: Context) -> Any:  # noqa: ARG002
        try:
            return await proceed(request, context)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the call's status
            await end_call(context, error)
        except BaseException:
            RECORD.get().code = "CANCELLED"
            raise


async def end_call(context: Context, error: Exception) -> NoReturn:
    """End the call with an error's code and details, and record them for the access log."""
    error = deadline_exceeded() if isinstance(error, TimeoutError) else error
    status = to_status(error)
    record = RECORD.get()
    record.code = CODES[status.code].name
    record.fault = None if isinstance(error, LookalikeError) else error
    await abort(context, status, error, record.request_id)
