"""The gate: calls are rejected while the server starts or drains, and counted, so that draining can wait for them."""

from __future__ import annotations

from typing import Any

from lookalike_server.domain.errors import LookalikeError
from lookalike_server.rpc.call_context import Context
from lookalike_server.rpc.gate import Gate
from lookalike_server.rpc.interceptors.base import PROBES, Behavior, CallInterceptor, Method
from lookalike_server.rpc.interceptors.errors import end_call


class GateInterceptor(CallInterceptor):
    """Outside the errors' interceptor: a call has left only once its status is on its way."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    async def intercept(self, method: Method, proceed: Behavior, request: Any, context: Context) -> Any:
        if method.name in PROBES:
            return await proceed(request, context)
        try:
            self._gate.enter()
        except LookalikeError as error:
            await end_call(context, error)
        try:
            return await proceed(request, context)
        finally:
            self._gate.leave()
