"""The streams of the API which the client does not call and this server does not have."""

# the names and parameters are those of the API's methods
# ruff: noqa: N802

from __future__ import annotations

from typing import Any, NoReturn

import grpc

from client.fake_refusals import Refusal, refuse

_UNIMPLEMENTED = Refusal(grpc.StatusCode.UNIMPLEMENTED, "this server does not support it yet")


class Unbuilt:
    """Answers UNIMPLEMENTED."""

    def EmbedStream(self, request_iterator: Any, context: grpc.ServicerContext) -> NoReturn:
        """Not built."""
        refuse(context, _UNIMPLEMENTED)

    def SearchStream(self, request_iterator: Any, context: grpc.ServicerContext) -> NoReturn:
        """Not built."""
        refuse(context, _UNIMPLEMENTED)
