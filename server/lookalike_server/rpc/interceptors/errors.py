"""Errors: what a call raises becomes its gRPC status, with details and trailers."""

from __future__ import annotations

from typing import NoReturn

from lookalike_server.domain.errors import LookalikeError, deadline_exceeded
from lookalike_server.rpc.call_context import CallRecord, Context
from lookalike_server.rpc.status import abort, code_of, rejection_of


async def end_call(context: Context, record: CallRecord, error: Exception) -> NoReturn:
    """End the call with an error's code and details, and record them for the access log."""
    error = deadline_exceeded() if isinstance(error, TimeoutError) else error
    record.code = code_of(error).name
    record.rejection = rejection_of(error)
    record.fault = None if isinstance(error, LookalikeError) else error
    await abort(context, error, record.trailers)
