"""What Streamlit leaves open over HTTP: other sites may frame the page, and anybody may read its metrics."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METRICS = "/_stcore/metrics"
# A framed page could be clicked on without being seen; X-Frame-Options is for browsers that ignore the other.
_HEADERS = {"Content-Security-Policy": "frame-ancestors 'none'", "X-Frame-Options": "DENY"}


class HttpGuard:
    """Forbids framing in every response, and answers for Streamlit's metrics as for any unknown page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        if scope["type"] == "http" and scope["path"].rstrip("/").endswith(_METRICS):
            await PlainTextResponse("Not Found", 404)(scope, receive, send_guarded)
        else:
            await self._app(scope, receive, send_guarded)
