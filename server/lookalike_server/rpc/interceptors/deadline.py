"""Deadlines: a call without one gets the default; streams have none of ours, because they may go on for hours."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from lookalike_server.rpc.call_context import Context, note_call
from lookalike_server.rpc.interceptors.base import Behavior, CallInterceptor, Method


class DeadlineInterceptor(CallInterceptor):
    """Notes the call's times for the stages, and ends it at the default deadline; at its own deadline gRPC does."""

    def __init__(self, default_seconds: float) -> None:
        super().__init__()
        self._default_seconds = default_seconds

    async def intercept(self, method: Method, proceed: Behavior, request: Any, context: Context) -> Any:
        if method.streams_responses:
            note_call(context, math.inf)
            return await proceed(request, context)
        if note_call(context, self._default_seconds):
            return await proceed(request, context)
        async with asyncio.timeout(self._default_seconds):
            return await proceed(request, context)
