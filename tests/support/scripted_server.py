"""A server in front of the real one: it records every call, and does on demand what the real one does by accident.

It rejects, drops and stalls calls, spoils details, and answers a method from a test's script; all else is the real
server's response. It can be stopped and started again, and has a health service of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass
from itertools import chain, islice
from types import TracebackType
from typing import Any, NoReturn, Self, cast

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

Handler = Callable[[Iterator[Any], grpc.ServicerContext], Iterator[Message]]
"""Takes the requests of a call, one where the method is unary, and yields its responses."""

_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


_NO_DEADLINE_S = 1e6
"""gRPC gives a call without a deadline one that is centuries away."""


@dataclass
class Rejection:
    """An error to respond with.

    Attributes:
        code: The status code.
        message: The status message.
        violations: Pairs of field and description.
        retry_after: Seconds, sent as RetryInfo.
        pushback_ms: Sent as `grpc-retry-pushback-ms`; negative means: do not retry.
        request_id: Sent as `x-request-id`.
        details: Sent instead of the details of `google.rpc`.
    """

    code: grpc.StatusCode
    message: str = "no"
    violations: Sequence[tuple[str, str]] = ()
    retry_after: float | None = None
    pushback_ms: int | None = None
    request_id: str = "r1"
    details: bytes | None = None

    def status(self) -> status_pb2.Status:
        """Return the rejection as `google.rpc.Status`."""
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        if self.violations:
            violation = error_details_pb2.BadRequest.FieldViolation
            fields = [violation(field=name, description=text) for name, text in self.violations]
            status.details.add().Pack(error_details_pb2.BadRequest(field_violations=fields))
        if self.retry_after is not None:
            delay = Duration()
            delay.FromNanoseconds(int(self.retry_after * 1e9))
            status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        return status

    def send(self, context: grpc.ServicerContext) -> NoReturn:
        """End a call with this error, its details and its trailers."""
        trailers: list[tuple[str, str | bytes]] = [
            ("x-request-id", self.request_id),
            ("grpc-status-details-bin", self.details or self.status().SerializeToString()),
        ]
        if self.pushback_ms is not None:
            trailers.append(("grpc-retry-pushback-ms", str(self.pushback_ms)))
        context.set_trailing_metadata(tuple(trailers))
        context.abort(self.code, self.message)


class ScriptedServer(grpc.GenericRpcHandler):
    """Passes calls on to a server, but for those in the script; a context manager.

    Args:
        target: The real server, HOST:PORT.
        credentials: Those of a server that speaks TLS; None to listen in the clear.

    Attributes:
        calls: The method and the first request of every call, rejected ones included; an empty one of an empty stream.
        metadata: The metadata of every call.
        arrivals: When each call arrived, in seconds of the monotonic clock.
        rejections: Sent to the calls one by one, before anything else happens; None lets one pass.
        item_rejections: Replace the statuses of products that are stored, by id.
        hooks: Run before a call of a method that was not rejected, by method.
        handlers: Take over a method, by method; may use `forward`.
        on_watch: Runs when a client has begun to watch the health and has had a first response.
        health_rejection: Ends every watch of the health.
    """

    def __init__(self, target: str, credentials: grpc.ServerCredentials | None = None) -> None:
        self._credentials = credentials
        self.calls: list[tuple[str, Any]] = []
        self.metadata: list[dict[str, str]] = []
        self.arrivals: list[float] = []
        self.rejections: list[Rejection | None] = []
        self.item_rejections: dict[str, list[Rejection]] = {}
        self.hooks: dict[str, Callable[[], object]] = {}
        self.handlers: dict[str, Handler] = {}
        self.on_watch: Callable[[], object] | None = None
        self.health_rejection: grpc.StatusCode | None = None
        self.port = 0
        self._lock = threading.Lock()
        self._channel = grpc.insecure_channel(target, [*_OPTIONS, ("grpc.enable_http_proxy", 0)])
        self.start()

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._channel.close()

    def start(self) -> None:
        """Listen, on the same port as before, and be SERVING."""
        pool = futures.ThreadPoolExecutor(max_workers=16)
        self._server = grpc.server(pool, options=[*_OPTIONS, ("grpc.so_reuseport", 0)])
        self._health = _Health(self)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_generic_rpc_handlers((self,))
        self.set_serving(serving=True)
        self.port = (
            self._server.add_secure_port(self.address, self._credentials)
            if self._credentials
            else self._server.add_insecure_port(self.address)
        )
        self._server.start()

    def drop_calls(self) -> None:
        """Drop every call and stop listening; may be called while serving a call."""
        self._server.stop(grace=None)

    def stop(self) -> None:
        """Drop every call, and return when nothing listens any more."""
        self._server.stop(grace=None).wait()

    def set_serving(self, *, serving: bool) -> None:
        """Set the health."""
        states = health_pb2.HealthCheckResponse
        self._health.set("", states.SERVING if serving else states.NOT_SERVING)

    def requests(self, method: str) -> list[Any]:
        """Return the requests of a method, rejected ones included."""
        with self._lock:
            return [request for name, request in self.calls if name == method]

    def respond(self, method: str, *responses: Message) -> None:
        """Respond to every call of a method with these messages."""
        self.handlers[method] = lambda _requests, _context: iter(responses)

    def cut_exports(self, *counts: int) -> None:
        """Break the next exports after so many products each; later ones are complete."""
        cuts = list(counts)

        def export(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Message]:
            responses = self.forward("lookalike.v1.CatalogService/ExportProducts", requests, context)
            if not cuts:
                yield from responses
                return
            yield from islice(responses, cuts.pop(0))
            Rejection(grpc.StatusCode.UNAVAILABLE, "shutting down", pushback_ms=-1).send(context)

        self.handlers["ExportProducts"] = export

    def forward(self, path: str, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        """Yield the real server's responses to a call of SERVICE/METHOD; its error ends the call."""
        _, response_type = _types(path)
        seconds = context.time_remaining()
        call = self._channel.stream_stream(
            f"/{path}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response_type.FromString,
        )(requests, timeout=seconds if seconds < _NO_DEADLINE_S else None)
        context.add_callback(lambda: cast("None", call.cancel()))
        try:
            yield from call
        except grpc.RpcError as error:
            context.set_trailing_metadata(cast("Any", error.trailing_metadata() or ()))
            context.abort(error.code(), error.details() or "")

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Handle every method of the API, as gRPC asks a `GenericRpcHandler` to."""
        path = handler_call_details.method.removeprefix("/")
        if not path.startswith("lookalike."):
            return None

        def serve(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            return self._serve(path, requests, context)

        request_type, _ = _types(path)
        return grpc.stream_stream_rpc_method_handler(
            serve,
            request_deserializer=request_type.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def _serve(self, path: str, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        name = path.rpartition("/")[2]
        # also of a stream: grpc.aio may lose the status of one that is rejected while it writes its first request
        first = next(requests, None)
        with self._lock:
            self.calls.append((name, _types(path)[0]() if first is None else first))
            self.arrivals.append(time.monotonic())
            # types-grpcio types metadata as objects; they are pairs
            self.metadata.append(dict(cast("Sequence[tuple[str, str]]", context.invocation_metadata())))
            rejection = self.rejections.pop(0) if self.rejections else None
        if rejection:
            rejection.send(context)
        if hook := self.hooks.get(name):
            hook()
        messages = iter(()) if first is None else chain([first], requests)
        handler = self.handlers.get(name)
        responses = handler(messages, context) if handler else self.forward(path, messages, context)
        for response in cast("Iterator[Any]", responses):
            if name in {"UpsertProducts", "ImportProducts"}:
                self._reject_items(response.results if name == "UpsertProducts" else [response.result])
            yield response

    def _reject_items(self, results: Sequence[Any]) -> None:
        for result in results:
            if planned := self.item_rejections.get(result.id):
                result.status.CopyFrom(planned.pop(0).status())


class _Health(health.HealthServicer):
    def __init__(self, server: ScriptedServer) -> None:
        super().__init__()
        self._owner = server

    def Watch(self, *args: Any, **kwargs: Any) -> Any:  # noqa: N802 - the API's name
        if self._owner.health_rejection:
            args[1].abort(self._owner.health_rejection, "no")
        watcher = super().Watch(*args, **kwargs)
        if self._owner.on_watch:
            self._owner.on_watch()
        return watcher


def _types(path: str) -> tuple[Any, Any]:
    """Return the classes of a method's request and response."""
    method = descriptor_pool.Default().FindMethodByName(path.replace("/", "."))
    return message_factory.GetMessageClass(method.input_type), message_factory.GetMessageClass(method.output_type)
