"""The methods of the API that no server has built yet; the client does not call them."""

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

    def ImportProducts(self, request_iterator: Any, context: grpc.ServicerContext) -> NoReturn:
        """Not built."""
        refuse(context, _UNIMPLEMENTED)

    def UpdateAttributes(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        """Not built."""
        refuse(context, _UNIMPLEMENTED)

    def GetImage(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        """Not built."""
        refuse(context, _UNIMPLEMENTED)
