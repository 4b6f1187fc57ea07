"""Auth: every call but a probe needs a token that allows its method; `rpc/auth.py` has the rules."""

from __future__ import annotations

from typing import Any

from lookalike_server.rpc.auth import Authenticator
from lookalike_server.rpc.call_context import RECORD, Context
from lookalike_server.rpc.interceptors.base import PROBES, Behavior, CallInterceptor, Method


class AuthInterceptor(CallInterceptor):
    """Rejects calls without such a token."""

    def __init__(self, authenticator: Authenticator) -> None:
        super().__init__()
        self._authenticator = authenticator

    async def intercept(self, method: Method, proceed: Behavior, request: Any, context: Context) -> Any:
        if method.name not in PROBES:
            self._authenticator.check(method.name, RECORD.get().metadata)
        return await proceed(request, context)
